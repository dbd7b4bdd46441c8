"""Images stored as Parquet, in the layout of the Hugging Face hub.

A folder, or its subfolder ``data``, holds ``train-*.parquet`` and ``test-*.parquet`` (or ``validation-*``) with the
columns ``image``, struct<bytes: binary, path: string> of encoded images, and ``label``, integers. The row of an image
*in its split*, counted from 0 over the files in the order of their names, is its index everywhere in the platform.
"""

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from isograd.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

PREFIXES = {"test": ("test", "validation")}  # where another split may lie
MODES = {1: "L", 3: "RGB"}  # channels -> mode of PIL


@dataclass(frozen=True)
class RowGroup:
    """The unit in which Parquet is read.

    Attributes:
        file: Path of the file.
        number: Position of the row group within the file.
        first: Row of the split at which it begins.
        num_rows: Rows in it.
    """

    file: str
    number: int
    first: int
    num_rows: int


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


@dataclass(frozen=True)
class ParquetSplit:
    """Where the rows of a split lie. Picklable, and holds no open file.

    Attributes:
        name: Name of the split.
        files: Absolute paths, in the order of the rows.
        row_groups: Rows of each row group, one tuple a file.
        image_column: Column of the encoded images.
        label_column: Column of the classes.
    """

    name: str
    files: tuple[str, ...]
    row_groups: tuple[tuple[int, ...], ...]
    image_column: str = "image"
    label_column: str = "label"

    @property
    def num_rows(self) -> int:
        """Number of images."""
        return sum(map(sum, self.row_groups))

    @cached_property
    def groups(self) -> tuple[RowGroup, ...]:
        """All row groups that have rows, in order."""
        return tuple(self._groups())

    def _groups(self) -> Iterator[RowGroup]:
        first = 0
        for file, counts in zip(self.files, self.row_groups, strict=True):
            for number, num_rows in enumerate(counts):
                if num_rows:
                    yield RowGroup(file, number, first, num_rows)
                first += num_rows

    def where(self, index: int) -> str:
        """Names the file and the row in it, from 0, of row ``index`` of the split; for messages."""
        for file, counts in zip(self.files, self.row_groups, strict=True):
            if index < sum(counts):
                return f"row {index} of {file}"
            index -= sum(counts)
        raise IndexError(index)

    def read(self, group: RowGroup) -> tuple[pa.ChunkedArray, np.ndarray]:
        """Returns the encoded images of a row group, and its labels (N,) int64. Raises DataError where it is damaged.

        ``images[i].as_py()`` is the bytes of one image; no image is copied before.
        """
        columns = [f"{self.image_column}.bytes", self.label_column]  # not image.path, which nothing needs
        try:
            table = pq.ParquetFile(group.file).read_row_group(group.number, columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(group.file, error) from error
        images = pc.call_function("struct_field", [table.column(self.image_column)], pc.StructFieldOptions(["bytes"]))
        return images.cast(pa.large_binary()), table.column(self.label_column).to_numpy().astype(np.int64)


def find_split(
    folder: str | Path, split: str, image_column: str = "image", label_column: str = "label"
) -> ParquetSplit:
    """Returns where the rows of ``split`` lie; reads the footers of its files, and nothing else.

    Args:
        folder: Holds the files, or has a subfolder ``data`` that does.
        split: ``train``, ``test`` (also found as ``validation-*``), or another prefix of file names.
        image_column: Name of the column of images; the hub's cifar10 calls it ``img``.
        label_column: Name of the column of classes.

    Raises:
        DataError: There is no such folder, file, column or row, a shard is missing, or a column has another type.
    """
    files = _files(Path(folder), split)
    _check_complete(files)
    counts = tuple(_row_groups(file, image_column, label_column) for file in files)
    if not sum(map(sum, counts)):
        raise DataError(
            f"the {split} split in {files[0].parent} has 0 rows in {len(files)} files",
            "There is nothing to train or test on",
            "Prepare the data set again.",
        )
    return ParquetSplit(split, tuple(map(str, files)), counts, image_column, label_column)


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


def check_labels(split: ParquetSplit, num_classes: int) -> np.ndarray:
    """Returns all labels, (N,) int64. Reads the label column only.

    Raises:
        DataError: A label is null, or not in [0, num_classes).
    """
    labels = [_labels_of(file, split.label_column) for file in split.files]
    column = pa.chunked_array([chunk for part in labels for chunk in part.chunks], type=pa.int64())
    if column.null_count:
        index = column.to_pylist().index(None)
        raise _bad_label(split, index, "has no label", "Every image needs a class", "Remove the row, or label it.")
    values = column.to_numpy()
    wrong = np.flatnonzero((values < 0) | (values >= num_classes))
    if wrong.size:
        value = int(values[wrong[0]])
        raise _bad_label(
            split,
            int(wrong[0]),
            f"has label {value}, not one of 0 to {num_classes - 1}",
            f"The classifier has num_classes={num_classes} outputs; {wrong.size} of {values.size} labels are outside",
            "Use a labelled split: the hub marks hidden labels with -1."
            if value == -1
            else f"Set num_classes={int(values.max()) + 1} if the labels are right.",
        )
    return values


def decode(data: bytes, channels: int) -> np.ndarray:
    """Returns the pixels of one encoded image, (C, H, W) uint8, converted to grey (C = 1) or RGB (C = 3).

    Raises:
        Exception: Whatever PIL raises on a corrupt image; callers know the row, see :func:`corrupt`.
    """
    return to_pixels(Image.open(io.BytesIO(data)), channels)


def to_pixels(image: Image.Image, channels: int) -> np.ndarray:
    """Returns the pixels of an opened image, (C, H, W) uint8, read-only."""
    pixels = np.asarray(convert(image, channels))
    return pixels.reshape(1, *pixels.shape) if channels == 1 else pixels.transpose(2, 0, 1)


def convert(image: Image.Image, channels: int) -> Image.Image:
    """Returns the image in grey (1 channel) or RGB (3). Raises DataError for other numbers of channels."""
    if channels not in MODES:
        raise DataError(
            f"images of {channels} channels are asked for",
            "They are decoded to grey or RGB",
            "Use data.image_shape=[C,H,W] with C of 1 or 3.",
        )
    return image if image.mode == MODES[channels] else image.convert(MODES[channels])


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


def corrupt(split: ParquetSplit, index: int, cause: Exception) -> DataError:
    """Returns the error for an image that cannot be decoded."""
    unknown = isinstance(cause, UnidentifiedImageError)  # its text is the address of a buffer
    return DataError(
        f"the image in {split.where(index)} cannot be decoded ({'no known format' if unknown else cause})",
        "Leaving it out would change every batch after it, unseen",
        "Replace or remove that row, or prepare the data set again.",
    )


def wrong_size(found: tuple[int, ...], expected: tuple[int, ...]) -> DataError:
    """Returns the error for an image that is (H, W) ``found`` where ``expected`` is needed; see :func:`at_row`."""
    return DataError(
        f"an image is {found[0]}x{found[1]}, not {expected[0]}x{expected[1]}",
        "Images of a batch must have one size, and nothing resizes them here",
        "Use data.image_shape=[C,H,W] with the stored size, or data.loading=stream data.crop=random, which resizes.",
    )


def at_row(split: ParquetSplit, index: int, error: DataError) -> DataError:
    """Returns ``error`` with the file and row added."""
    return DataError(f"{error.what}: {split.where(index)}", error.why, error.mend)


def unreadable(file: str | Path, cause: Exception) -> DataError:
    """Returns the error for a file that is no intact Parquet file."""
    return DataError(
        f"cannot read {file} ({cause})", "It is damaged, or no Parquet file", "Copy, download or prepare it again."
    )


def _decode_row(split: ParquetSplit, index: int, data: bytes, image_size: tuple[int, int, int]) -> np.ndarray:
    try:
        pixels = decode(data, image_size[0])
    except DataError:
        raise
    except Exception as error:  # PIL's decoders raise OSError, SyntaxError, ValueError, struct.error, IndexError ...
        raise corrupt(split, index, error) from error
    if pixels.shape != image_size:
        raise at_row(split, index, wrong_size(pixels.shape[1:], image_size[1:]))
    return pixels


def _files(folder: Path, split: str) -> list[Path]:
    folder = folder.expanduser().resolve()  # a Ray worker has another working directory
    if not folder.is_dir():
        raise DataError(
            f"there is no folder {folder}",
            f"The {split} split is read from it",
            "Use data.path=FOLDER with the folder that holds its Parquet files, or make one with `isograd prepare`.",
        )
    prefixes = PREFIXES.get(split, (split,))
    for prefix in prefixes:
        for place in (folder, folder / "data"):
            if files := sorted(place.glob(f"{prefix}-*.parquet")):
                return files
    names = sorted(path.name for place in (folder, folder / "data") for path in place.glob("*"))
    raise DataError(
        f"there is no {' or '.join(f'{prefix}-*.parquet' for prefix in prefixes)} in {folder} or its subfolder data",
        f"The {split} split is read from such files; found: {', '.join(names[:6]) or 'nothing'}"
        f"{' ...' if len(names) > 6 else ''}",
        "Name the files so, or run `isograd prepare`.",
    )


def _check_complete(files: list[Path]) -> None:
    """Raises DataError where names such as ``train-00001-of-00005`` say that shards are missing or of two sets."""
    parts = [match.groups() for file in files if (match := re.search(r"-(\d+)-of-(\d+)\.parquet$", file.name))]
    if not parts:
        return
    totals = sorted({int(total) for _, total in parts})
    if len(totals) == 1 and len(parts) == totals[0]:
        return
    raise DataError(
        f"{files[0].parent} holds {len(parts)} shards {files[0].name.split('-')[0]}-*, "
        f"whose names promise {' and '.join(map(str, totals))}",
        "Rows would be missing, or occur twice",
        "Complete the download." if len(totals) == 1 else f"Keep one set of shards, such as -of-{totals[-1]:05d}.",
    )


def _row_groups(file: Path, image_column: str, label_column: str) -> tuple[int, ...]:
    try:
        with pq.ParquetFile(file) as parquet:
            metadata, schema = parquet.metadata, parquet.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise unreadable(file, error) from error
    for option, column, fits, wanted in (
        ("image_column", image_column, _is_image, "struct<bytes: binary, path: string>"),
        ("label_column", label_column, pa.types.is_integer, "an integer"),
    ):
        if column not in schema.names:
            raise DataError(
                f"{file} has no column '{column}'",
                f"Its columns are: {', '.join(schema.names)}",
                f"Use data.{option}=NAME with one of them.",
            )
        if not fits(schema.field(column).type):
            raise DataError(
                f"column '{column}' of {file} is {schema.field(column).type}, not {wanted}",
                "The hub's layout of image classification is expected",
                f"Use data.{option}=NAME with another column ({', '.join(schema.names)}), or run `isograd prepare`.",
            )
    return tuple(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))


def _is_image(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and any(
        field.name == "bytes" and (pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type))
        for field in kind
    )


def _labels_of(file: str, column: str) -> pa.ChunkedArray:
    try:
        return pq.ParquetFile(file).read(columns=[column]).column(column).cast(pa.int64())
    except (pa.ArrowException, OSError) as error:
        raise unreadable(file, error) from error


def _bad_label(split: ParquetSplit, index: int, what: str, why: str, mend: str) -> DataError:
    return DataError(f"{split.where(index)} {what}", why, mend)
