"""The fast path: data that fits in memory, held decoded where it is consumed, and augmented in batches."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from isograd.data.batch import Batch, num_batches
from isograd.data.rows import Parted
from isograd.data.shared import as_tensor
from isograd.data.transforms import UNCHANGED, BatchTransform
from isograd.seeding import generator

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Samples:
    """A decoded split: the arrays of each field, whose first axis is the sample.

    NumPy arrays, because Ray shares their memory between processes without a copy.
    """

    inputs: Mapping[str, np.ndarray]
    targets: Mapping[str, np.ndarray]

    @property
    def size(self) -> int:
        """Number of samples."""
        return len(next(iter(self.inputs.values())))

    @property
    def arrays(self) -> list[np.ndarray]:
        """All arrays, the inputs first."""
        return [*self.inputs.values(), *self.targets.values()]

    @property
    def num_bytes(self) -> int:
        """Of all arrays."""
        return sum(array.nbytes for array in self.arrays)

    def part(self, rows: np.ndarray | slice) -> "Samples":
        """Returns some of the samples: (N,) bool, (n,) row numbers, or a slice, which copies nothing."""
        return Samples(*({name: array[rows] for name, array in tree.items()} for tree in (self.inputs, self.targets)))


class MemorySource(Parted):
    """Batches of data held in memory. Implements :class:`~isograd.data.batch.Source`.

    Args:
        train: Training split.
        valid: Validation split; a part without rows where there is none.
        test: Test split.
        batch_size: Samples a batch, B.
        seed: Of the order and of the augmentation.
        augmentation: Of batches to train on.
    """

    def __init__(
        self,
        train: Samples,
        valid: Samples,
        test: Samples,
        *,
        batch_size: int,
        seed: int,
        augmentation: BatchTransform = UNCHANGED,
    ) -> None:
        held_bytes = train.num_bytes + valid.num_bytes + test.num_bytes
        super().__init__((train.size, valid.size, test.size), batch_size, held_bytes=held_bytes)
        self.seed, self.augmentation = seed, augmentation
        self._train, self._valid, self._test = (_Held(split, _CPU) for split in (train, valid, test))

    def on(self, device: torch.device) -> "MemorySource":
        """Returns the source with its samples held on ``device``."""
        moved = copy.copy(self)
        moved._train, moved._valid, moved._test = (
            _Held(held.samples, device) for held in (self._train, self._valid, self._test)
        )
        return moved

    def train(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yields the epoch's batches, shuffled by (seed, epoch), augmented by (seed, epoch, batch number)."""
        order = torch.randperm(self.num_train, generator=generator(self.seed, "order", epoch))
        for number in range(first, num_batches(self.num_train, self.batch_size)):
            rows = self._rows(order, number)
            draws = self.augmentation.draw(len(rows), generator(self.seed, "augment", epoch, number))
            places = self._part.of(len(rows), number)
            batch = self._train.take(rows[places], number)
            yield self.augmentation.apply(batch, {name: drawn[places] for name, drawn in draws.items()})

    def valid(self) -> Iterator[Batch]:
        """Yields the validation split in order, not augmented."""
        return self._in_order(self._valid)

    def test(self) -> Iterator[Batch]:
        """Yields the test split in order, not augmented."""
        return self._in_order(self._test)

    def _in_order(self, held: "_Held") -> Iterator[Batch]:
        order = torch.arange(held.samples.size)
        for number in range(num_batches(len(order), self.batch_size)):
            rows = self._rows(order, number)
            yield held.take(rows[self._part.of(len(rows), number)], number)

    def _rows(self, order: Tensor, number: int) -> Tensor:
        return order[number * self.batch_size : (number + 1) * self.batch_size]


@dataclass(frozen=True)
class _Held:
    """A split, and its tensors on the device where it is consumed, made when they are asked for."""

    samples: Samples
    device: torch.device

    @cached_property
    def _trees(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        inputs, targets = (
            {name: as_tensor(array).to(self.device) for name, array in tree.items()}
            for tree in (self.samples.inputs, self.samples.targets)
        )
        return inputs, targets

    def take(self, rows: Tensor, number: int) -> Batch:
        """Returns the batch of these rows."""
        there = rows.to(self.device)
        inputs, targets = ({name: tensor[there] for name, tensor in tree.items()} for tree in self._trees)
        return Batch(inputs, targets, rows, number)

    def __getstate__(self) -> dict[str, object]:
        return {"samples": self.samples, "device": self.device}  # not the tensors, which are made where they are used
