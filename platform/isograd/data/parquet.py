"""Images stored as Parquet, in the layout of the Hugging Face hub.

A folder holds the files of a training split and of one to test on; :mod:`isograd.data.shards` says where and under
which names. They have a column of encoded images, struct<bytes: binary, path: string> or plain binary, and one of
classes, numbers or names (:mod:`isograd.data.labels`). The row of an image *in its split*, counted from 0 over the
files in the order of their names, is its index everywhere in the platform.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from isograd.data import labels
from isograd.data.access import open_parquet
from isograd.data.columns import check_agree, check_columns
from isograd.data.shards import Shards, find_shards, find_validation, refuse_twice
from isograd.data.windows import RowGroup
from isograd.errors import DataError


@dataclass(frozen=True)
class ParquetSplit:
    """Where the rows of a split lie. Picklable, and holds no open file.

    Attributes:
        name: Name of the split.
        files: Absolute paths, in the order of the rows.
        row_groups: Rows of each row group, one tuple a file.
        image_column: Column of the encoded images.
        label_column: Column of the classes.
        names: Of the classes in the order of their numbers, where labels are text; else none.
        num_named: Classes that have names, of text or of ClassLabel; 0 where labels are numbers alone.
        kept: One bit a row of the files, set where the split has it; empty: it has all.
    """

    name: str
    files: tuple[str, ...]
    row_groups: tuple[tuple[int, ...], ...]
    image_column: str = "image"
    label_column: str = "label"
    names: tuple[str, ...] = ()
    num_named: int = 0
    kept: bytes = b""

    @property
    def num_rows(self) -> int:
        """Number of images."""
        return len(self.rows)

    @property
    def rows(self) -> np.ndarray:
        """The rows of the files that the split has, ascending, (N,) int64."""
        return _rows(self.kept, sum(map(sum, self.row_groups)))

    def part(self, keep: np.ndarray) -> "ParquetSplit":
        """Returns the part of a whole split that has the rows where ``keep``, (N,) bool, is true."""
        return replace(self, kept=np.packbits(keep).tobytes())

    @cached_property
    def groups(self) -> tuple[RowGroup, ...]:
        """All row groups that have rows of the split, in order."""
        found, rows, begin = [], self.rows, 0
        for file, counts in zip(self.files, self.row_groups, strict=True):
            for number, count in enumerate(counts):
                first, end = np.searchsorted(rows, (begin, begin + count)).tolist()
                if end > first:
                    found.append(RowGroup(file, number, first, end - first, begin))
                begin += count
        return tuple(found)

    def where(self, index: int) -> str:
        """Names the file and the row in it, from 0, of row ``index`` of the split; for messages."""
        index = int(self.rows[index])
        for file, counts in zip(self.files, self.row_groups, strict=True):
            if index < sum(counts):
                return f"row {index} of {file}"
            index -= sum(counts)
        raise AssertionError(index)

    def places(self, group: RowGroup) -> np.ndarray:
        """Returns which rows of a row group the split has, (n,) int64."""
        return self.rows[group.first : group.first + group.num_rows] - group.begin

    def read(self, group: RowGroup) -> tuple[pa.ChunkedArray, np.ndarray]:
        """Returns the encoded images of a row group that the split has, and their labels (N,) int64.

        ``images[i].as_py()`` is the bytes of one image, None where there are none; of a whole split, no image is copied
        before. Raises DataError where the file is damaged.
        """
        with open_parquet(group.file) as file:
            is_struct = pa.types.is_struct(file.schema_arrow.field(self.image_column).type)
            image = f"{self.image_column}.bytes" if is_struct else self.image_column  # image.path is of no use
            table = file.read_row_group(group.number, columns=[image, self.label_column])
        if self.kept:
            table = table.take(self.places(group))
        images = table.column(self.image_column)
        if is_struct:
            images = pc.call_function("struct_field", [images], pc.StructFieldOptions(["bytes"]))
        numbers = labels.numbers_of(table.column(self.label_column), self.names)
        return images.cast(pa.large_binary()), labels.to_numpy(numbers)

    def read_labels(self) -> pa.ChunkedArray:
        """Returns the classes of all rows of the files as int64, null where there is none.

        Raises:
            DataError: A file is damaged, or a label is too large.
        """
        columns = [self._read_numbers(file) for file in self.files]
        return pa.chunked_array([chunk for column in columns for chunk in column.chunks], type=pa.int64())

    def _read_numbers(self, file: str) -> pa.ChunkedArray:
        column = _read_column(file, self.label_column)
        try:
            return labels.numbers_of(column, self.names)
        except DataError as error:
            raise DataError(f"{error.what}: column '{self.label_column}' of {file}", error.why, error.mend) from error


@lru_cache(maxsize=8)  # not in the split, which is sent to other processes
def _rows(kept: bytes, count: int) -> np.ndarray:
    """Returns the places of the bits that are set; all where there are none."""
    if not kept:
        return np.arange(count)
    return np.flatnonzero(np.unpackbits(np.frombuffer(kept, np.uint8), count=count))


def find_splits(
    folder: str | Path,
    test_split: str,
    image_column: str = "image",
    label_column: str = "label",
    *,
    validates: bool = True,
) -> tuple[ParquetSplit, ParquetSplit, ParquetSplit]:
    """Returns the splits to train, to validate and to test on; arguments as of :func:`read_split`.

    What is validated on is the data's own validation split, if it is asked for, is there and is not tested on; else it
    is a part of the training split without rows.

    Raises:
        DataError: What :func:`find_shards` and :func:`read_split` raise, or the two are not of one data set: they lie
            in different configurations, or mean different classes by the same number; or a file is read twice.
    """
    folder = Path(folder)
    found = {split: find_shards(folder, split) for split in ("train", test_split)}
    places = [shards.place for shards in found.values()]
    if len(set(places)) > 1:
        raise DataError(
            f"the train split lies in {places[0]}, the {test_split} split in {places[1]}",
            "They may be splits of different data sets",
            f"Use data.path={places[0]}, and put the split to test on there.",
        )
    own = find_validation(places[0], found[test_split].files) if validates else None
    refuse_twice([file for shards in [*found.values(), *([own[1]] if own else [])] for file in shards.files])
    train = read_split(found["train"], "train", image_column, label_column)
    test = read_split(found[test_split], test_split, image_column, label_column, train)
    valid = train.part(np.zeros(train.num_rows, bool))
    if own is not None:
        name, shards = own
        valid = read_split(shards, name, image_column, label_column, train)
    return train, valid, test


def read_split(
    shards: Shards,
    split: str,
    image_column: str = "image",
    label_column: str = "label",
    train: ParquetSplit | None = None,
) -> ParquetSplit:
    """Returns where the rows of a split lie; reads the footers of its files, and labels where they are text.

    Args:
        shards: The files.
        split: Its name.
        image_column: Name of the column of images; the hub's cifar10 calls it ``img``.
        label_column: Name of the column of classes.
        train: The training split, whose classes one to test on has.

    Raises:
        DataError: There is no such column or row, or a column has another type.
    """
    files = tuple(map(str, shards.files))
    counts, schemas = [], {}
    for name in files:
        with open_parquet(name) as file:
            metadata, schemas[name] = file.metadata, file.schema_arrow
        check_columns(name, schemas[name], image_column, label_column)
        counts.append(tuple(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)))
    if not sum(map(sum, counts)):
        raise DataError(
            f"the {split} split in {Path(files[0]).parent} has 0 rows in {len(files)} files",
            "There is nothing to train or test on",
            "Prepare the data set again.",
        )
    is_text = labels.is_text(schemas[files[0]].field(label_column).type)
    if train is not None:
        schemas = {file: _read_schema(file) for file in train.files} | schemas
    check_agree(schemas, label_column)
    made = ParquetSplit(split, files, tuple(counts), image_column, label_column)
    if is_text:
        names = _read_names(made, train)
        return replace(made, names=names, num_named=len(names))
    return replace(made, num_named=max(len(labels.declared_names(schema, label_column)) for schema in schemas.values()))


def _read_names(split: ParquetSplit, train: ParquetSplit | None) -> tuple[str, ...]:
    columns = [_read_column(file, split.label_column) for file in split.files]
    if train is None:
        return tuple(sorted({name for column in columns for name in labels.names_in(column)}))
    for column in columns:
        labels.refuse_unknown(split.name, column, train.names)
    return train.names


def _read_schema(file: str) -> pa.Schema:
    with open_parquet(file) as parquet:
        return parquet.schema_arrow


def _read_column(file: str, column: str) -> pa.ChunkedArray:
    with open_parquet(file) as parquet:
        return parquet.read(columns=[column]).column(column)
