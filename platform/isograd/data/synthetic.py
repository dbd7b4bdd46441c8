"""Batches for measurements and conformance tests: random samples of any fields, held in memory."""

from collections.abc import Callable
from functools import partial

import torch

from isograd.data.batch import Batch, draw_batch
from isograd.data.field import Field
from isograd.data.memory import MemorySource, Samples
from isograd.data.transforms import UNCHANGED, BatchTransform
from isograd.seeding import generator


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


def tiny_source(num_batches: int, batch_size: int = 1, shape: tuple[int, int, int] = (1, 8, 8)) -> MemorySource:
    """Returns batches of random images with two classes, for stages that do not look at them."""
    inputs, targets = {"image": Field(shape, torch.uint8, "image")}, {"label": Field((), torch.int64, "label", 2)}
    return source(partial(draw_batch, inputs, targets), num_batches, batch_size)
