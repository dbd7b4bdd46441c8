"""Images of any sizes without labels, read whole from a folder of image files or from Parquet files."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from isograd.data.access import not_allowed
from isograd.data.decoding import decode, open_image, to_pixels, undecodable
from isograd.data.image_folder import is_hidden
from isograd.errors import DataError

_SUFFIXES = frozenset([".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"])


class Pictures(NamedTuple):
    """A split: images of any sizes, (3, H, W) uint8 each."""

    images: tuple[np.ndarray, ...]

    @property
    def num_bytes(self) -> int:
        """Of all pixels."""
        return sum(image.nbytes for image in self.images)

    def part(self, keep: np.ndarray) -> "Pictures":
        """Returns the images where ``keep``, (N,) bool, is true."""
        return Pictures(tuple(image for image, is_kept in zip(self.images, keep, strict=True) if is_kept))


def read_images(path: str, split: str, shrink: int = 1) -> Pictures:
    """Returns the images of a folder in the order of their names, made ``shrink`` times smaller.

    Args:
        path: Of the folder; of Parquet files in it, those whose names begin with ``split`` are meant, if there are.
        split: ``train`` or ``test``.
        shrink: Whole factor.

    Raises:
        DataError: There is none, or one cannot be read.
    """
    folder = Path(path).absolute()
    files = _list_files(folder)
    tables = [file for file in files if file.suffix == ".parquet"]
    tables = [file for file in tables if file.name.startswith(split)] or tables
    chosen = tables or [file for file in files if file.suffix.lower() in _SUFFIXES]
    if not chosen:
        raise DataError(
            f"there are 0 images in {folder}",
            "Images to train on and to test on lie in a folder each, as files or in the column image of Parquet files",
            "Use data.path=FOLDER data.test_path=FOLDER with the folders that hold them.",
        )
    return _read(tuple(chosen), tuple(file.stat().st_mtime_ns for file in chosen), shrink)


def _list_files(folder: Path) -> list[Path]:
    try:
        files = sorted(folder.iterdir()) if folder.is_dir() else []
    except PermissionError as error:
        raise not_allowed(folder, error) from error
    return [file for file in files if file.is_file() and not is_hidden(file.name)]


@lru_cache(maxsize=4)
def _read(files: tuple[Path, ...], written: tuple[int, ...], shrink: int) -> Pictures:
    """Decodes images, once for all the runs that a process makes on them."""
    return Pictures(tuple(_decode(data, where, shrink) for file in files for data, where in _encoded(file)))


def _encoded(file: Path) -> Iterator[tuple[bytes, str]]:
    """Yields the bytes of each image in a file, and where it lies."""
    try:
        if file.suffix != ".parquet":
            yield file.read_bytes(), str(file)
            return
        column = pq.read_table(file, columns=["image"]).column("image")
    except PermissionError as error:
        raise not_allowed(file, error) from error
    except (pa.ArrowException, OSError, KeyError) as error:
        raise DataError(
            f"{file} has no column image that can be read ({error})",
            "The large images lie in it, encoded, as on the Hugging Face hub",
            "Use data.path=FOLDER with Parquet files that have it.",
        ) from error
    for row, value in enumerate(column):
        image = value.as_py()
        yield image["bytes"] if isinstance(image, dict) else image, f"row {row} of {file}"


def _decode(data: bytes, where: str, shrink: int) -> np.ndarray:
    try:
        if shrink == 1:
            return np.ascontiguousarray(decode(data, 3))
        image = open_image(data).convert("RGB")
        small = image.resize((image.width // shrink, image.height // shrink), Image.Resampling.BICUBIC)
        return np.ascontiguousarray(to_pixels(small, 3))
    except Exception as error:
        raise DataError(
            f"{where} cannot be decoded ({undecodable(error)})", "Each image is learned from", "Remove or replace it."
        ) from error
