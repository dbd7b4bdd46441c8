"""A batch, and where batches come from."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Some images with their classes.

    Attributes:
        input: (B, C, H, W) uint8, augmented, not normalised.
        target: (B,) int64.
        index: (B,) int64, the row of each image in its split.
        number: Position of the batch within its epoch, from 0.
    """

    input: Tensor
    target: Tensor
    index: Tensor
    number: int

    @property
    def size(self) -> int:
        """Number of images, B."""
        return self.target.shape[0]

    def to(self, device: torch.device) -> "Batch":
        """Returns the batch with its input and target on ``device``."""
        return replace(
            self,
            input=self.input.to(device, non_blocking=True),
            target=self.target.to(device, non_blocking=True),
        )


class Source(Protocol):
    """Batches of a run, in an order that is a function of the seed alone.

    A source is picklable and holds no open resource; the process that iterates it opens what it needs. It knows
    nothing of local modules, stages or executors. ``num_train`` and ``num_test`` count images; ``held_bytes`` is what a
    source carries with it when it is sent to another process.
    """

    num_train: int
    num_test: int
    batch_size: int
    held_bytes: int

    def train(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yields the batches of ``epoch`` (from 1), from number ``first`` on; the last one may be smaller."""
        ...

    def on(self, device: torch.device) -> "Source":
        """Returns the source to iterate where batches are consumed on ``device``; it may move its images there."""
        ...

    def test(self) -> Iterator[Batch]:
        """Yields the test split in order, not augmented."""
        ...


def num_batches(num_images: int, batch_size: int) -> int:
    """Returns how many batches cover ``num_images``, a smaller last one included."""
    return -(-num_images // batch_size)
