"""What tells a data set from others, cheaply, and wherever it lies: a run goes on with the rows that it began with."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from isograd.data.memory import Samples


@dataclass(frozen=True)
class Identity:
    """What a data set is.

    Attributes:
        digest: Of what follows, the footers of Parquet files, all labels and which rows are held out; of arrays, of all
            values.
        num_train: Rows to train on.
        num_test: Rows to test on.
        num_bytes: Of the files, or of the arrays.
        num_valid: Rows to validate on.

    Note:
        Not of the images' bytes, which would have to be read. A footer has the sizes and offsets of all columns, and
        what `isograd prepare` knows of the originals; so other images go unseen only where they take the same bytes.
        Names and places of the files are left out: data may move.
    """

    digest: str
    num_train: int
    num_test: int
    num_bytes: int
    num_valid: int = 0

    def to_json(self) -> dict[str, str | int]:
        """Returns it as JSON; :meth:`from_json` turns it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, tree: Mapping[str, str | int]) -> "Identity":
        """Returns what :meth:`to_json` was called of. Raises TypeError, ValueError or KeyError for anything else."""
        counts = (int(tree[name]) for name in ("num_train", "num_test", "num_bytes"))
        return cls(str(tree["digest"]), *counts, num_valid=int(tree.get("num_valid", 0)))

    def __str__(self) -> str:
        valid = f", {self.num_valid:,} to validate" if self.num_valid else ""
        return (
            f"{self.num_train:,} rows to train{valid} and {self.num_test:,} to test on in {self.num_bytes:,} bytes, "
            f"digest {self.digest[:8]}"
        )


def data_in(provenance: Mapping[str, Any]) -> Identity | None:
    """Returns what the provenance of a run or a study says of its data; None of those of earlier versions."""
    data = provenance.get("data")
    return None if data is None else Identity.from_json(data)


def identity_of_samples(train: Samples, valid: Samples, test: Samples) -> Identity:
    """Returns what three splits in memory are."""
    digest = hashlib.sha256()
    for array in (array for split in (train, valid, test) for array in split.arrays):
        digest.update(f"{array.shape} {array.dtype} ".encode() + np.ascontiguousarray(array).tobytes())
    num_bytes = train.num_bytes + valid.num_bytes + test.num_bytes
    return Identity(digest.hexdigest()[:16], train.size, test.size, num_bytes, valid.size)
