"""Images of the rows of Parquet files: decoded, or refused with the file and the row."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from isograd.data.access import open_parquet
from isograd.data.crops import Exact, ImageTransform
from isograd.data.decoding import open_image, undecodable
from isograd.data.label_checks import check_labels
from isograd.data.parquet import ParquetSplit
from isograd.errors import ContractError, DataError

if TYPE_CHECKING:
    from torch import Tensor


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
    pixels, exact, draws = images.numpy(), Exact(image_size), np.random.default_rng(0)
    for group in split.groups:
        encoded, _ = split.read(group)
        for row in range(group.num_rows):
            index = group.first + row
            pixels[index] = decode_row(split, index, encoded[row].as_py(), exact, draws)
    return images, torch.from_numpy(targets.copy())


def decode_row(
    split: ParquetSplit, index: int, data: bytes | None, transform: ImageTransform, draws: np.random.Generator
) -> np.ndarray:
    """Returns the image of row ``index``, transformed, (C, H, W) uint8; ``data`` are its bytes, as they are stored.

    Raises:
        DataError: There are none, or they cannot be decoded, or the transform refuses the image.
        ContractError: The transform failed.
    """
    if data is None:
        raise _no_bytes(split, index)
    try:
        image = open_image(data)
    except DataError as error:
        raise _at_row(split, index, error) from error
    except Exception as error:  # PIL's decoders raise OSError, SyntaxError, ValueError, struct.error, IndexError ...
        raise _corrupt(split, index, undecodable(error)) from error
    try:
        return transform(image, draws)
    except DataError as error:
        raise _at_row(split, index, error) from error
    except Exception as error:
        raise ContractError(
            f"{transform} failed on {split.where(index)} ({error!r})",
            "A transform has to accept every image of the data set",
            "See the traceback of the task above this one.",
        ) from error


def _at_row(split: ParquetSplit, index: int, error: DataError) -> DataError:
    return DataError(f"{error.what}: {split.where(index)}", error.why, error.mend)


def _corrupt(split: ParquetSplit, index: int, reason: str) -> DataError:
    return DataError(
        f"the image in {split.where(index)} cannot be decoded ({reason})",
        "Leaving it out would change every batch after it, unseen",
        "Replace or remove that row, or prepare the data set again.",
    )


def _no_bytes(split: ParquetSplit, index: int) -> DataError:
    path = _path_of(split, index)
    if path is None:
        return _corrupt(split, index, "its bytes are null")
    return DataError(
        f"the image in {split.where(index)} cannot be decoded (its bytes are null, it has only a path, '{path}')",
        "Images are read from the Parquet files, which may lie on another machine than what a path leads to",
        "Store the bytes: run `isograd prepare image_folder` on the files, or let the library `datasets` embed them "
        "(Dataset.push_to_hub does).",
    )


def _path_of(split: ParquetSplit, index: int) -> str | None:
    group = next(group for group in split.groups if index < group.first + group.num_rows)
    with open_parquet(group.file) as file:
        kind = file.schema_arrow.field(split.image_column).type
        if not (pa.types.is_struct(kind) and any(field.name == "path" for field in kind)):
            return None
        column = file.read_row_group(group.number, columns=[f"{split.image_column}.path"]).column(split.image_column)
    row = column[int(split.places(group)[index - group.first])].as_py()
    return None if row is None else row["path"]
