"""Which rows: those of one worker among several, and those that are held out. Numbers only; no torch."""

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from isograd.errors import DataError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Part:
    """What one of several workers has of every global batch: a run of it, as even as can be.

    Batches of a single sample go to the workers in turn, so that images that come one by one are everybody's work.

    Attributes:
        rank: Of the worker, from 0.
        world: Number of workers.
    """

    rank: int = 0
    world: int = 1

    def of(self, size: int, number: int) -> slice:
        """Returns the places of the worker's samples in batch ``number``, which has ``size`` of them."""
        if size == 1:
            return slice(0, int(number % self.world == self.rank))
        return slice(size * self.rank // self.world, size * (self.rank + 1) // self.world)

    def size(self, size: int, number: int) -> int:
        """Returns how many samples of batch ``number``, which has ``size`` of them, are the worker's."""
        places = self.of(size, number)
        return places.stop - places.start

    def holds(self, places: np.ndarray, batch_size: int, num_rows: int) -> np.ndarray:
        """Returns which places of an epoch of ``num_rows`` are the worker's, (n,) bool."""
        number, within = np.divmod(places, batch_size)
        size = np.minimum(batch_size, num_rows - number * batch_size)  # of the batch of each
        in_run = (size * self.rank // self.world <= within) & (within < size * (self.rank + 1) // self.world)
        return np.where(size == 1, number % self.world == self.rank, in_run)


WHOLE = Part()


class Parted:
    """What all sources of batches have in common: their numbers, and that each worker may have a part of them.

    Args:
        counts: Samples to train, to validate and to test on.
        batch_size: Samples a batch, B.
        test_batch_size: Of batches to validate and to test on; None: the same.
        held_bytes: What the source carries with it.
    """

    def __init__(
        self, counts: tuple[int, int, int], batch_size: int, *, test_batch_size: int | None = None, held_bytes: int = 0
    ) -> None:
        self.num_train, self.num_valid, self.num_test = counts
        self.batch_size, self.test_batch_size = batch_size, test_batch_size or batch_size
        self.held_bytes, self._part = held_bytes, WHOLE

    def on(self, device: "torch.device") -> Self:
        """Returns the source itself: its batches are made on the CPU, so that they are the same on any device."""
        return self

    def shard(self, rank: int, world: int) -> Self:
        """Returns worker ``rank``'s part of every batch; of single samples, the whole of some."""
        shard = copy.copy(self)
        shard._part = Part(rank, world)
        return shard


def hold_out(classes: np.ndarray, share: float) -> np.ndarray:
    """Chooses the rows of a training split to validate on, the same ones for every seed of a run.

    Args:
        classes: (N,) int64, the class of each row; all 0 where there are no classes.
        share: Of the rows of each class, rounded; 0 holds out none.

    Returns:
        (N,) bool, true where a row is held out.

    Raises:
        DataError: A class would have no row to train on, or none to validate on.
    """
    from isograd.seeding import derive  # imports torch, which those who decode images do without

    held = np.zeros(len(classes), bool)
    if share == 0:
        return held
    labels, counts = np.unique(classes, return_counts=True)
    rows = np.split(np.argsort(classes, kind="stable"), np.cumsum(counts)[:-1])  # of each class, ascending
    for label, members in zip(labels.tolist(), rows, strict=True):
        count, num_held = len(members), math.floor(len(members) * share + 0.5)
        if not 0 < num_held < count:
            raise _nothing_left(share, label if len(labels) > 1 else None, count, num_held, int(counts.min()))
        order = np.random.default_rng(derive(0, "valid", label)).permutation(count)
        held[members[order[:num_held]]] = True
    return held


def _nothing_left(share: float, label: int | None, count: int, num_held: int, fewest: int) -> DataError:
    """Returns the error for a class without rows on one side; ``label`` None: for data without classes."""
    what, each = f"class {label} empty", "Each class"
    if label is None:
        what, each = f"nothing to {'train' if num_held else 'validate'} on", "The data"
    nearest = 999 - math.floor(500 / fewest) if num_held else math.ceil(500 / fewest)  # thousandths
    mend = f"Use data.valid={nearest / 1000:g}, or give the data a validation split of its own."
    if fewest == 1:
        whose = "" if label is None else "the data "
        mend = f"Give {each.lower()} two rows or more, or {whose}a validation split of its own."
    return DataError(
        f"data.valid={share:g} leaves {what}: {num_held} of its {count} rows are held out",
        f"{each} needs rows to train on and rows to validate on",
        mend,
    )
