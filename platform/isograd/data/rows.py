"""Which rows: those of one worker among several, and those that are held out. Numbers only; no torch."""

import math
from dataclasses import dataclass

import numpy as np

from isograd.errors import DataError


@dataclass(frozen=True)
class Part:
    """What one of several workers has of every global batch.

    Attributes:
        rank: Of the worker, from 0.
        world: Number of workers.
    """

    rank: int = 0
    world: int = 1

    def of(self, size: int) -> slice:
        """Returns the places of the worker's samples in a batch of ``size``: a run of them, as even as can be."""
        return slice(size * self.rank // self.world, size * (self.rank + 1) // self.world)

    def size(self, size: int) -> int:
        """Returns how many samples of a batch of ``size`` are the worker's."""
        places = self.of(size)
        return places.stop - places.start

    def holds(self, places: np.ndarray, batch_size: int, num_rows: int) -> np.ndarray:
        """Returns which places of an epoch of ``num_rows`` are the worker's, (n,) bool."""
        size = np.minimum(batch_size, num_rows - places // batch_size * batch_size)  # of the batch of each
        within = places % batch_size
        return (size * self.rank // self.world <= within) & (within < size * (self.rank + 1) // self.world)


WHOLE = Part()


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
    for label, count in zip(labels.tolist(), counts.tolist(), strict=True):
        num_held = math.floor(count * share + 0.5)
        if not 0 < num_held < count:
            raise _empty_class(share, label, count, num_held, min(counts.tolist()))
        order = np.random.default_rng(derive(0, "valid", label)).permutation(count)
        held[np.flatnonzero(classes == label)[order[:num_held]]] = True
    return held


def _empty_class(share: float, label: int, count: int, num_held: int, fewest: int) -> DataError:
    mend = f"Use data.valid={math.ceil(500 / fewest) / 1000:g}, or give the data a validation split of its own."
    if fewest == 1:
        mend = "Use data.valid=0, or give the data a validation split of its own, or each class two rows or more."
    return DataError(
        f"data.valid={share:g} leaves class {label} empty: {num_held} of its {count} rows are held out",
        "Each class needs rows to train on and rows to validate on",
        mend,
    )
