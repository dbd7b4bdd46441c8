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
    mend = f"Use data.valid={math.ceil(500 / fewest) / 1000:g}, or give the data a validation split of its own."
    if fewest == 1:
        mend = f"Use data.valid=0, or give the data a validation split of its own, or {each.lower()} two rows or more."
    return DataError(
        f"data.valid={share:g} leaves {what}: {num_held} of its {count} rows are held out",
        f"{each} needs rows to train on and rows to validate on",
        mend,
    )
