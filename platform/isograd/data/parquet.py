"""Images stored as Parquet, in the layout of the Hugging Face hub.

A folder holds the files of a training split and of one to test on; :mod:`isograd.data.shards` says where and under
which names. They have a column of encoded images, struct<bytes: binary, path: string> or plain binary, and one of
classes, numbers or names (:mod:`isograd.data.labels`). The row of an image *in its split*, counted from 0 over the
files in the order of their names, is its index everywhere in the platform.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from isograd.data import labels
from isograd.data.access import not_allowed
from isograd.data.columns import check_agree, check_columns
from isograd.data.decoding import decode, undecodable
from isograd.data.shards import Shards, find_shards, find_validation, splits_beside
from isograd.data.windows import RowGroup
from isograd.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

_LENGTH_AND_MAGIC = 8  # bytes at the end of a Parquet file: the footer's length, and PAR1


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
        try:
            with pq.ParquetFile(group.file) as file:
                is_struct = pa.types.is_struct(file.schema_arrow.field(self.image_column).type)
                image = f"{self.image_column}.bytes" if is_struct else self.image_column  # image.path is of no use
                table = file.read_row_group(group.number, columns=[image, self.label_column])
        except (pa.ArrowException, OSError) as error:
            raise unreadable(group.file, error) from error
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
        columns = [self._numbers_in(file) for file in self.files]
        return pa.chunked_array([chunk for column in columns for chunk in column.chunks], type=pa.int64())

    def _numbers_in(self, file: str) -> pa.ChunkedArray:
        column = _labels_of(file, self.label_column)
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
    """Returns the splits to train, to validate and to test on; arguments as of :func:`find_split`.

    What is validated on is the data's own validation split, if it is asked for, is there and is not tested on; else it
    is a part of the training split without rows.

    Raises:
        DataError: What :func:`find_split` raises, or the two are not of one data set: they lie in different
            configurations, or mean different classes by the same number; or a file is read twice.
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
    _refuse_twice([file for shards in [*found.values(), *([own[1]] if own else [])] for file in shards.files])
    train = _split(found["train"], "train", image_column, label_column)
    test = _split(found[test_split], test_split, image_column, label_column, train)
    valid = train.part(np.zeros(train.num_rows, bool))
    if own is not None:
        name, shards = own
        valid = _split(shards, name, image_column, label_column, train)
    return train, valid, test


def _refuse_twice(files: Sequence[Path]) -> None:
    """Raises DataError where two files are one, by a link."""
    seen: dict[tuple[int, int], Path] = {}
    for file in files:
        status = file.stat()
        identity = status.st_dev, status.st_ino
        if (other := seen.get(identity)) is not None:
            raise DataError(
                f"{file} would be read twice: it is {other}",
                "Tests on images that were trained on say nothing of others, and rows of one split would occur twice",
                "Put there what the file is named after, or remove it.",
            )
        seen[identity] = file


def find_split(
    folder: str | Path, split: str, image_column: str = "image", label_column: str = "label"
) -> ParquetSplit:
    """Returns where the rows of ``split`` lie; reads the footers of its files, and labels where they are text.

    Args:
        folder: Holds the files; see :mod:`isograd.data.shards`.
        split: ``train``, ``test`` (also found as ``validation-*``), or another prefix of file names.
        image_column: Name of the column of images; the hub's cifar10 calls it ``img``.
        label_column: Name of the column of classes.

    Raises:
        DataError: There is no such folder, file, column or row, a shard is missing, or a column has another type.
    """
    return _split(find_shards(Path(folder), split), split, image_column, label_column)


def _split(
    shards: Shards, split: str, image_column: str, label_column: str, train: ParquetSplit | None = None
) -> ParquetSplit:
    """Returns the split that the shards are; one to test on has the classes of ``train``."""
    files = tuple(map(str, shards.files))
    opened = [_opened(file) for file in files]
    for file, (_, schema) in zip(files, opened, strict=True):
        check_columns(file, schema, image_column, label_column)
    counts = tuple(
        tuple(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
        for metadata, _ in opened
    )
    if not sum(map(sum, counts)):
        raise DataError(
            f"the {split} split in {Path(files[0]).parent} has 0 rows in {len(files)} files",
            "There is nothing to train or test on",
            "Prepare the data set again.",
        )
    schemas = {file: schema for file, (_, schema) in zip(files, opened, strict=True)}
    if train is not None:
        schemas = {file: _opened(file)[1] for file in train.files} | schemas
    check_agree(schemas, label_column)
    made = ParquetSplit(split, files, counts, image_column, label_column)
    if labels.is_text(opened[0][1].field(label_column).type):
        names = _names(made, train)
        return replace(made, names=names, num_named=len(names))
    return replace(made, num_named=max(len(labels.declared_names(schema, label_column)) for schema in schemas.values()))


def _names(split: ParquetSplit, train: ParquetSplit | None) -> tuple[str, ...]:
    columns = [_labels_of(file, split.label_column) for file in split.files]
    if train is None:
        return tuple(sorted({name for column in columns for name in labels.names_in(column)}))
    for column in columns:
        labels.refuse_unknown(split.name, column, train.names)
    return train.names


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


def load_images(split: ParquetSplit, image_size: tuple[int, int, int], num_classes: int) -> "tuple[Tensor, Tensor]":
    """Decodes a whole split into memory.

    Args:
        split: Where the rows lie.
        image_size: (C, H, W) that every image must have; C converts.
        num_classes: Number of classes, Y.

    Returns:
        Images (N, C, H, W) uint8, and targets (N,) int64.

    Raises:
        DataError: An image is corrupt or of another size, or a label is null or out of range.

    Note:
        One thread. PIL holds the interpreter's lock for most of the 0.1 ms that a 32x32 JPEG takes, so a pool of
        threads is slower (measured: 20,000 images in 2.0 s alone, 2.5 s with two threads).
    """
    import torch  # here only: workers that decode a stream start in a third of the time, and memory, without it

    targets = check_labels(split, num_classes)
    images = torch.empty((split.num_rows, *image_size), dtype=torch.uint8)
    pixels = images.numpy()
    for group in split.groups:
        encoded, _ = split.read(group)
        for row in range(group.num_rows):
            pixels[group.first + row] = _decode_row(split, group.first + row, encoded[row].as_py(), image_size)
    return images, torch.from_numpy(targets.copy())


def read_footer(file: str) -> tuple[int, bytes]:
    """Returns the size of a Parquet file, bytes, and its footer. Raises DataError where it cannot be read."""
    try:
        with Path(file).open("rb") as opened:
            size = opened.seek(0, 2)
            opened.seek(-_LENGTH_AND_MAGIC, 2)
            length = int.from_bytes(opened.read(4), "little")
            opened.seek(-min(length + _LENGTH_AND_MAGIC, size), 2)
            return size, opened.read(length)
    except OSError as error:
        raise unreadable(file, error) from error


def corrupt(split: ParquetSplit, index: int, cause: Exception) -> DataError:
    """Returns the error for an image that cannot be decoded."""
    return DataError(
        f"the image in {split.where(index)} cannot be decoded ({undecodable(cause)})",
        "Leaving it out would change every batch after it, unseen",
        "Replace or remove that row, or prepare the data set again.",
    )


def no_bytes(split: ParquetSplit, index: int) -> DataError:
    """Returns the error for a row that holds no image, and says where its image may be."""
    path = _path_of(split, index)
    if path is None:
        return DataError(
            f"the image in {split.where(index)} cannot be decoded (its bytes are null)",
            "Leaving it out would change every batch after it, unseen",
            "Replace or remove that row, or prepare the data set again.",
        )
    return DataError(
        f"the image in {split.where(index)} cannot be decoded (its bytes are null, it has only a path, '{path}')",
        "Images are read from the Parquet files, which may lie on another machine than what a path leads to",
        "Store the bytes: run `isograd prepare image_folder` on the files, or let the library `datasets` embed them "
        "(Dataset.push_to_hub does).",
    )


def wrong_size(found: tuple[int, ...], expected: tuple[int, ...]) -> DataError:
    """Returns the error for an image that is (C, H, W) ``found`` where ``expected`` is needed; see :func:`at_row`."""
    return DataError(
        f"an image is {found[1]}x{found[2]}, not {expected[1]}x{expected[2]}",
        "Images of a batch must have one size, and nothing resizes them here",
        "Use data.loading=stream data.crop=random, which resizes; or, where all images have this size, "
        f"data.image_shape=[{','.join(map(str, found))}].",
    )


def at_row(split: ParquetSplit, index: int, error: DataError) -> DataError:
    """Returns ``error`` with the file and row added."""
    return DataError(f"{error.what}: {split.where(index)}", error.why, error.mend)


def unreadable(file: str | Path, cause: Exception) -> DataError:
    """Returns the error for a file that is no intact Parquet file, or may not be read."""
    if isinstance(cause, PermissionError):
        return not_allowed(file, cause)
    return DataError(
        f"cannot read {file} ({cause})", "It is damaged, or no Parquet file", "Copy, download or prepare it again."
    )


def _decode_row(split: ParquetSplit, index: int, data: bytes | None, image_size: tuple[int, int, int]) -> np.ndarray:
    if data is None:
        raise no_bytes(split, index)
    try:
        pixels = decode(data, image_size[0])
    except DataError as error:
        raise at_row(split, index, error) from error
    except Exception as error:  # PIL's decoders raise OSError, SyntaxError, ValueError, struct.error, IndexError ...
        raise corrupt(split, index, error) from error
    if pixels.shape != image_size:
        raise at_row(split, index, wrong_size(pixels.shape, image_size))
    return pixels


def _opened(file: str | Path) -> tuple[pq.FileMetaData, pa.Schema]:
    try:
        with pq.ParquetFile(file) as parquet:
            return parquet.metadata, parquet.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise unreadable(file, error) from error


def _labels_of(file: str, column: str) -> pa.ChunkedArray:
    try:
        with pq.ParquetFile(file) as parquet:
            return parquet.read(columns=[column]).column(column)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(file, error) from error


def _path_of(split: ParquetSplit, index: int) -> str | None:
    group = next(group for group in split.groups if index < group.first + group.num_rows)
    with pq.ParquetFile(group.file) as file:
        kind = file.schema_arrow.field(split.image_column).type
        if not (pa.types.is_struct(kind) and any(field.name == "path" for field in kind)):
            return None
        column = file.read_row_group(group.number, columns=[f"{split.image_column}.path"]).column(split.image_column)
    row = column[int(split.places(group)[index - group.first])].as_py()
    return None if row is None else row["path"]


def _bad_label(split: ParquetSplit, index: int, what: str, why: str, mend: str) -> DataError:
    return DataError(f"{split.where(index)} {what}", why, mend)
