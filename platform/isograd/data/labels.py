"""The column of classes: which types are read, and what their numbers are.

Whole numbers are classes as they are, false and true are 0 and 1. Names are numbered in their alphabetical order, which
the training split says for all splits; an accent may be written as one character or as two, the name is the same.
Dictionary encoding is how a column is stored, and changes nothing.
"""

import json
import unicodedata
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from isograd.errors import DataError

MOST_CLASSES = 10**6  # that a network is built for; what is numbered further identifies something
_FORM = "NFC"  # of Unicode: accents as one character where there is one
_LARGEST = np.iinfo(np.int64).max


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds names of classes."""
    kind = _plain_type(kind)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def is_label(kind: pa.DataType) -> bool:
    """Whether a column can be read as classes."""
    return is_text(kind) or pa.types.is_integer(_plain_type(kind)) or pa.types.is_boolean(_plain_type(kind))


def names_in(column: pa.ChunkedArray) -> tuple[str, ...]:
    """Returns the names that occur in a column of text, sorted."""
    return tuple(sorted(name for name in _decode(column).unique().to_pylist() if name is not None))


def declared_names(schema: pa.Schema, column: str) -> tuple[str, ...]:
    """Returns the names of a column's numbers where the file says them: ClassLabel of the library `datasets`."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(unicodedata.normalize(_FORM, name) for name in names)


def numbers_of(column: pa.ChunkedArray, names: Sequence[str]) -> pa.ChunkedArray:
    """Returns a column of classes as int64: of text the positions in ``names``; null where there is no label.

    Raises:
        DataError: A number is too large for int64.
    """
    column = _decode(column)
    if not is_text(column.type):
        largest = pc.call_function("max", [column]).as_py() if pa.types.is_uint64(column.type) else None
        if largest is not None and largest > _LARGEST:
            raise DataError(
                f"a label is {largest:,}, too large for the number of a class",
                f"Labels are int64, at most {_LARGEST:,}, and this one would become negative",
                "Number the classes from 0.",
            )
        return column.cast(pa.int64(), safe=False)
    options = pc.SetLookupOptions(value_set=pa.array(names, column.type))
    return pc.call_function("index_in", [column], options).cast(pa.int64())


def refuse_unknown(split: str, column: pa.ChunkedArray, names: Sequence[str]) -> None:
    """Raises DataError where a split has labels that the training split does not have."""
    if unknown := sorted(set(names_in(column)) - set(names)):
        raise DataError(
            f"the {split} split has {len(unknown)} labels that the train split does not have: "
            f"{', '.join(map(repr, unknown[:5]))}{' ...' if len(unknown) > 5 else ''}",
            f"Labels that are text are numbered in the order of the {len(names)} names in the train split",
            "Correct the names, or store numbers.",
        )


def unseen(labels: np.ndarray, num_classes: int) -> list[int]:
    """Returns the classes of 0 to ``num_classes`` - 1 that no label is."""
    return np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0).tolist()


def to_numpy(numbers: pa.ChunkedArray) -> np.ndarray:
    """Returns a column without nulls as (N,) int64."""
    return numbers.to_numpy().astype(np.int64)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if isinstance(kind, pa.DictionaryType) else kind


def _decode(column: pa.ChunkedArray) -> pa.ChunkedArray:
    plain = _plain_type(column.type)
    if pa.types.is_string_view(plain):
        plain = pa.string()
    column = column if plain == column.type else column.cast(plain)
    return pc.call_function("utf8_normalize", [column], pc.Utf8NormalizeOptions(_FORM)) if is_text(plain) else column
