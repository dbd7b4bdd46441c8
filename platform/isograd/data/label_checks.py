"""Whether the labels of a stored split are classes that a network has outputs for."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from isograd.data import labels
from isograd.data.parquet import ParquetSplit
from isograd.data.shards import splits_beside
from isograd.errors import DataError


def check_labels(split: ParquetSplit, num_classes: int) -> np.ndarray:
    """Returns the labels of a split, (N,) int64. Reads the label column only, and checks all of the files.

    Raises:
        DataError: A label is null, or not in [0, num_classes).
    """
    if split.kept:
        return check_labels(replace(split, kept=b""), num_classes)[split.rows]
    column = split.read_labels()
    if column.null_count:
        index = column.to_pylist().index(None)
        raise _bad_label(split, index, "has no label", "Every image needs a class", "Remove the row, or label it.")
    values = labels.to_numpy(column)
    blank = [number for number, name in enumerate(split.names) if not name.strip()]
    if (unlabelled := np.flatnonzero(np.isin(values, blank))).size:
        what = "has no label, but an empty text"
        raise _bad_label(split, int(unlabelled[0]), what, "It would be a class", "Remove the row, or label it.")
    wrong = np.flatnonzero((values < 0) | (values >= num_classes))
    if wrong.size:
        value = int(values[wrong[0]])
        label = f"label {value}" + (f" ('{split.names[value]}')" if split.names else "")
        raise _bad_label(
            split,
            int(wrong[0]),
            f"has {label}, not one of 0 to {num_classes - 1}",
            f"The classifier has data.num_classes={num_classes} outputs; {wrong.size} of {values.size} labels are "
            "outside",
            _label_mend(split, value, int(values.max())),
        )
    return values


def _label_mend(split: ParquetSplit, value: int, largest: int) -> str:
    if value == -1 and split.name != "train":
        others = splits_beside(Path(split.files[0]))
        other = f"data.test_split={others[0]}" if others else "a part of the training split, in a file test.parquet"
        return f"Use a labelled split, such as {other}: the hub marks hidden labels with -1."
    if value < 0:
        return "Number the classes from 0."
    if largest >= labels.MOST_CLASSES:
        return f"Number the classes from 0: labels up to {largest:,} identify something, and are no classes."
    return f"Use data.num_classes={max(largest + 1, split.num_named)} if the labels are right."


def _bad_label(split: ParquetSplit, index: int, what: str, why: str, mend: str) -> DataError:
    return DataError(f"{split.where(index)} {what}", why, mend)
