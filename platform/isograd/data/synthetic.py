"""Batches for measurements and conformance tests: random samples of any fields, held in memory."""

from collections.abc import Callable

import torch

from isograd.data.batch import Batch
from isograd.data.field import Fields, draw
from isograd.data.memory import MemorySource, Samples
from isograd.data.transforms import UNCHANGED, BatchTransform
from isograd.seeding import generator


def draw_batch(inputs: Fields, targets: Fields, size: int, generator: torch.Generator) -> Batch:
    """Returns a batch of ``size`` random samples that have these fields."""
    return Batch(
        {name: draw(field, size, generator) for name, field in inputs.items()},
        {name: draw(field, size, generator) for name, field in targets.items()},
        torch.arange(size),
        0,
    )


def source(
    synthetic: Callable[[int, torch.Generator], Batch],
    num_batches: int,
    batch_size: int,
    augmentation: BatchTransform = UNCHANGED,
) -> MemorySource:
    """Returns batches of random samples, drawn once; there is nothing to validate or test on.

    Args:
        synthetic: (size, generator) -> a batch of random samples, as :meth:`isograd.tasks.task.Task.synthetic` is.
        num_batches: Of an epoch.
        batch_size: Samples a batch, B.
        augmentation: Of each batch, as the data set does it whose place the samples take.
    """
    drawn = synthetic(num_batches * batch_size, generator(0, "synthetic"))
    inputs, targets = (
        {name: tensor.numpy() for name, tensor in tree.items()} for tree in (drawn.inputs, drawn.targets)
    )
    samples = Samples(inputs, targets)
    nothing = samples.part(slice(0))
    return MemorySource(samples, nothing, nothing, batch_size=batch_size, seed=0, augmentation=augmentation)
