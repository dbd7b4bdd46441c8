"""In which portions Parquet is read, and in which the rows of an epoch are shuffled."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class RowGroup:
    """The unit in which Parquet is read.

    Attributes:
        file: Path of the file.
        number: Position of the row group within the file.
        first: Row of the split at which it begins.
        num_rows: Rows in it that the split has.
        begin: Row at which it begins, of all in the files, whether the split has them or not.
    """

    file: str
    number: int
    first: int
    num_rows: int
    begin: int


@dataclass(frozen=True)
class Window:
    """Some row groups whose rows are permuted together: one task.

    Attributes:
        groups: The row groups, in the order of the epoch.
        seed: Of the permutation of the rows; None keeps their order.
        skip: Rows at the start that are left out.
    """

    groups: tuple[RowGroup, ...]
    seed: int | None = None
    skip: int = 0

    @property
    def num_rows(self) -> int:
        """Rows before any are skipped."""
        return sum(group.num_rows for group in self.groups)

    def order(self) -> np.ndarray:
        """Returns the places of the kept rows among all rows of the window, in the order of the epoch."""
        rows = np.arange(self.num_rows)
        return (rows if self.seed is None else np.random.default_rng(self.seed).permutation(rows))[self.skip :]


def cut_windows(groups: Sequence[RowGroup], num_rows: int) -> list[Window]:
    """Strings row groups together until there are ``num_rows``, then begins the next window; the last is smaller."""
    windows, part = [], []
    for group in groups:
        part.append(group)
        if sum(member.num_rows for member in part) >= num_rows:
            windows.append(Window(tuple(part)))
            part = []
    return [*windows, Window(tuple(part))] if part else windows


def skip_rows(windows: Sequence[Window], num_rows: int) -> list[Window]:
    """Drops the windows that lie before row ``num_rows`` of the epoch, and the rows before it in the first one kept."""
    kept = []
    for window in windows:
        if num_rows < window.num_rows:
            kept.append(replace(window, skip=num_rows))
        num_rows = max(num_rows - window.num_rows, 0)
    return kept
