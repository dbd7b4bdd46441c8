"""What tells a data set from others, cheaply, and wherever it lies: a run goes on with the rows that it began with."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isograd.data.parquet import ParquetSplit, unreadable

_LENGTH_AND_MAGIC = 8  # bytes at the end of a Parquet file: the footer's length, and PAR1


@dataclass(frozen=True)
class Identity:
    """What a data set is.

    Attributes:
        digest: Of what follows, the footers of Parquet files and all labels; of arrays, of all values.
        num_train: Rows to train on.
        num_test: Rows to test on.
        num_bytes: Of the files, or of the arrays.

    Note:
        Not of the images' bytes, which would have to be read. A footer has the sizes and offsets of all columns, and
        what `isograd prepare` knows of the originals; so other images go unseen only where they take the same bytes.
        Names and places of the files are left out: data may move.
    """

    digest: str
    num_train: int
    num_test: int
    num_bytes: int

    def to_json(self) -> dict[str, str | int]:
        """Returns it as JSON; :meth:`from_json` turns it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, tree: Mapping[str, str | int]) -> "Identity":
        """Returns what :meth:`to_json` was called of. Raises TypeError, ValueError or KeyError for anything else."""
        return cls(str(tree["digest"]), int(tree["num_train"]), int(tree["num_test"]), int(tree["num_bytes"]))

    def __str__(self) -> str:
        return (
            f"{self.num_train:,} rows to train and {self.num_test:,} to test on in {self.num_bytes:,} bytes, "
            f"digest {self.digest[:8]}"
        )


def data_in(provenance: Mapping[str, Any]) -> Identity | None:
    """Returns what the provenance of a run or a study says of its data; None of those of earlier versions."""
    found = provenance.get("data")
    return None if found is None else Identity.from_json(found)


def identity_of_splits(train: ParquetSplit, test: ParquetSplit) -> Identity:
    """Returns what two splits are. Reads footers and labels. Raises DataError where a file is damaged."""
    digest, num_bytes = hashlib.sha256(), 0
    for split in (train, test):
        for file in split.files:
            size, footer = _end_of(file)
            num_bytes += size
            digest.update(f"{size} {len(footer)} ".encode() + footer)
        labels = split.read_labels()
        digest.update(f"{split.num_rows} {labels.null_count} {split.names!r}".encode())
        digest.update(labels.fill_null(-1).to_numpy().tobytes())
    return Identity(digest.hexdigest()[:16], train.num_rows, test.num_rows, num_bytes)


def identity_of_arrays(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> Identity:
    """Returns what the pixels and targets of two splits are."""
    digest, num_bytes = hashlib.sha256(), 0
    for array in (*train, *test):
        num_bytes += array.nbytes
        digest.update(f"{array.shape} {array.dtype} ".encode() + np.ascontiguousarray(array).tobytes())
    return Identity(digest.hexdigest()[:16], len(train[0]), len(test[0]), num_bytes)


def _end_of(file: str) -> tuple[int, bytes]:
    """Returns the size of a Parquet file, and its footer."""
    try:
        with Path(file).open("rb") as opened:
            size = opened.seek(0, 2)
            opened.seek(-_LENGTH_AND_MAGIC, 2)
            length = int.from_bytes(opened.read(4), "little")
            opened.seek(-min(length + _LENGTH_AND_MAGIC, size), 2)
            return size, opened.read(length)
    except OSError as error:
        raise unreadable(file, error) from error
