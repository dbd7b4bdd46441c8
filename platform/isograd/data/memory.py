"""The fast path: a data set that fits in memory, held decoded as uint8 where it is consumed, augmented in batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from isograd.data.batch import Batch
from isograd.data.shared import as_tensor
from isograd.data.transforms import Augmentation
from isograd.seeding import generator


@dataclass(frozen=True)
class Images:
    """A decoded split: ``pixels`` (N, C, H, W) uint8 and ``targets`` (N,) int64.

    NumPy arrays, because Ray shares their memory between processes without a copy.
    """

    pixels: np.ndarray
    targets: np.ndarray


class MemorySource:
    """Batches of a decoded data set. Implements :class:`~isograd.data.batch.Source`.

    Args:
        train: Training split.
        test: Test split.
        batch_size: Images a batch, B.
        seed: Of the order and of the augmentation.
        augmentation: Applied to training batches.
    """

    def __init__(self, train: Images, test: Images, *, batch_size: int, seed: int, augmentation: Augmentation) -> None:
        self.num_valid = 0
        self.num_train, self.num_test = len(train.targets), len(test.targets)
        self.batch_size, self.seed, self.augmentation = batch_size, seed, augmentation
        self.held_bytes = train.pixels.nbytes + test.pixels.nbytes
        self._train, self._test = train, test
        self._device = torch.device("cpu")

    def on(self, device: torch.device) -> "MemorySource":
        """Returns the source with its pixels and targets held on ``device``."""
        moved = MemorySource(
            self._train, self._test, batch_size=self.batch_size, seed=self.seed, augmentation=self.augmentation
        )
        moved._device = device
        return moved

    @cached_property
    def _train_tensors(self) -> tuple[Tensor, Tensor]:
        return self._held(self._train)

    @cached_property
    def _test_tensors(self) -> tuple[Tensor, Tensor]:
        return self._held(self._test)

    def train(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yields the epoch's batches, shuffled by (seed, epoch), augmented by (seed, epoch, batch number)."""
        order = torch.randperm(self.num_train, generator=generator(self.seed, "order", epoch))
        for batch in self._batches(self._train_tensors, order, first):
            draw = generator(self.seed, "augment", epoch, batch.number)
            image = self.augmentation(batch.inputs["image"], draw)
            yield Batch({"image": image}, batch.targets, batch.index, batch.number)

    def test(self) -> Iterator[Batch]:
        """Yields the test split in order, not augmented."""
        yield from self._batches(self._test_tensors, torch.arange(self.num_test), 0)

    def valid(self) -> Iterator[Batch]:
        """None."""
        return iter(())

    def shard(self, rank: int, world: int) -> "MemorySource":
        """interim"""
        return self

    def _batches(self, held: tuple[Tensor, Tensor], order: Tensor, first: int) -> Iterator[Batch]:
        pixels, targets = held
        for number, rows in enumerate(order.split(self.batch_size)):
            if number >= first:
                chosen = rows.to(self._device)
                yield Batch({"image": pixels[chosen]}, {"label": targets[chosen]}, rows, number)

    def _held(self, images: Images) -> tuple[Tensor, Tensor]:
        return as_tensor(images.pixels).to(self._device), as_tensor(images.targets).to(self._device)
