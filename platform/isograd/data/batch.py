"""A batch, and where batches come from."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from isograd.data.field import Fields, Tree, draw

Split = Literal["train", "valid", "test"]


@dataclass(frozen=True)
class Batch:
    """Some samples, as named tensors whose first axis is the sample.

    Attributes:
        inputs: By field, augmented, as they are stored (an image is uint8, not normalised).
        targets: By field.
        index: (B,) int64, the row of each sample in its split.
        number: Position of the batch within its epoch, from 0.
    """

    inputs: Tree
    targets: Tree
    index: Tensor
    number: int

    @property
    def size(self) -> int:
        """Number of samples, B."""
        return self.index.shape[0]

    def to(self, device: torch.device) -> "Batch":
        """Returns the batch with its inputs and targets on ``device``."""
        return replace(self, inputs=move(self.inputs, device), targets=move(self.targets, device))


def move(tree: Tree, device: torch.device) -> dict[str, Tensor]:
    """Returns named tensors on ``device``."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in tree.items()}


def draw_batch(inputs: Fields, targets: Fields, size: int, generator: torch.Generator) -> Batch:
    """Returns a batch of ``size`` random samples that have these fields."""
    given, wanted = (
        {name: draw(field, size, generator) for name, field in fields.items()} for fields in (inputs, targets)
    )
    return Batch(given, wanted, torch.arange(size), 0)


class Source(Protocol):
    """Batches of a run, in an order that is a function of the seed alone.

    A source is picklable and holds no open resource; the process that iterates it opens what it needs. It knows
    nothing of local modules, stages or executors. ``num_train``, ``num_valid`` and ``num_test`` count samples;
    ``batch_size`` is that of a global batch to train on, ``test_batch_size`` of one to validate or test on;
    ``held_bytes`` is what a source carries with it when it is sent to another process.
    """

    num_train: int
    num_valid: int
    num_test: int
    batch_size: int
    test_batch_size: int
    held_bytes: int

    def train(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yields the batches of ``epoch`` (from 1), from number ``first`` on; the last one may be smaller."""
        ...

    def valid(self) -> Iterator[Batch]:
        """Yields the validation split in order, not augmented; nothing where there is none."""
        ...

    def test(self) -> Iterator[Batch]:
        """Yields the test split in order, not augmented."""
        ...

    def on(self, device: torch.device) -> "Source":
        """Returns the source to iterate where batches are consumed on ``device``; it may move its samples there."""
        ...

    def shard(self, rank: int, world: int) -> "Source":
        """Returns worker ``rank``'s part of ``world`` workers: its rows of every global batch, in their order.

        All shards together yield exactly the rows, draws and batch numbers of the whole source.
        """
        ...


def num_batches(num_samples: int, batch_size: int) -> int:
    """Returns how many batches cover ``num_samples``, a smaller last one included."""
    return -(-num_samples // batch_size)
