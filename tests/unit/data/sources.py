"""Small sources, and what tells their batches apart."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from isograd.data.batch import Batch
from isograd.data.field import Tree
from isograd.data.memory import MemorySource, Samples
from isograd.data.transforms import Augmentation


def samples(count: int, seed: int = 0) -> Samples:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)
    return Samples({"image": images}, {"label": generator.integers(0, 10, count)})


def source(num_train: int = 84, batch_size: int = 8, num_valid: int = 13) -> MemorySource:
    """84 images in batches of 8: eleven steps an epoch, the last one of 4."""
    splits = samples(num_train), samples(num_valid, seed=1), samples(22, seed=2)
    augmentation = Augmentation(padding=2, flip=True)
    return MemorySource(*splits, batch_size=batch_size, seed=0, augmentation=augmentation)


def as_batch(images: torch.Tensor) -> Batch:
    rows = torch.arange(len(images))
    return Batch({"image": images}, {"label": rows}, rows, 0)


def same(some: Sequence[Batch], others: Sequence[Batch]) -> bool:
    return len(some) == len(others) and all(
        a.number == b.number
        and torch.equal(a.index, b.index)
        and _equal(a.inputs, b.inputs)
        and _equal(a.targets, b.targets)
        for a, b in zip(some, others, strict=True)
    )


def whole(shards: Iterable[Iterable[Batch]]) -> list[Batch]:
    """Puts the workers' parts of each batch together."""
    return [_joined(parts) for parts in zip(*shards, strict=True)]


def _joined(parts: Sequence[Batch]) -> Batch:
    assert len({part.number for part in parts}) == 1
    inputs, targets = (
        {name: torch.cat([tree[name] for tree in trees]) for name in trees[0]}
        for trees in ([part.inputs for part in parts], [part.targets for part in parts])
    )
    return Batch(inputs, targets, torch.cat([part.index for part in parts]), parts[0].number)


def _equal(some: Tree, others: Tree) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)
