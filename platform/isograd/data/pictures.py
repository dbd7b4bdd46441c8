"""Images of any sizes without labels, read whole from a folder of image files or from Parquet files."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from isograd.data.access import open_parquet, reading, stamp
from isograd.data.columns import check_images
from isograd.data.decoding import convert, open_image, to_pixels, undecodable
from isograd.data.folders import is_image, list_folder
from isograd.data.shards import Shards, find_shards, find_validation, refuse_twice
from isograd.errors import DataError
from isograd.system.paths import user_path

Files = tuple[Path, ...]


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


def find_files(path: str, test_path: str, *, validates: bool) -> tuple[Files, Files, Files]:
    """Returns the files to train, to validate and to test on: image files, or Parquet files of these splits.

    Args:
        path: Of the folder to train on.
        test_path: Of the folder to test on.
        validates: Whether a validation split that lies beside Parquet files to train on is wanted.

    Raises:
        DataError: There are none, or they are no complete set, or some would be read twice.
    """
    train, test = _find(path, "train", "data.path"), _find(test_path, "test", "data.test_path")
    is_stored = train.files[0].suffix == ".parquet"
    own = find_validation(train.place, test.files) if validates and is_stored else None
    valid = own[1].files if own else ()
    refuse_twice([*train.files, *valid, *test.files], "Use data.test_path=FOLDER with other images.")
    return train.files, valid, test.files


def _find(path: str, split: str, option: str) -> Shards:
    folder = user_path(path).resolve()  # a Ray worker has another working directory
    listed = list_folder(folder)[1] if folder.is_dir() else []
    images = tuple(file for file in listed if is_image(file))
    mend = f"Use {option}=FOLDER with image files, or with Parquet files {split}-*.parquet that have a column image."
    if any(folder.glob("*.parquet" if images else "**/*.parquet")):
        try:
            return find_shards(folder, split)
        except DataError as error:
            raise DataError(error.what, error.why, mend) from error
    if not images:
        raise DataError(f"there are 0 images in {folder}", f"The {split} split is read from it", mend)
    return Shards(folder, images)


def read_images(files: Files, shrink: int = 1) -> Pictures:
    """Returns the images of some files, in their order, each side ``shrink`` times shorter.

    Raises:
        DataError: One cannot be read, or nothing of it would be left.
    """
    return _read(files, tuple(map(stamp, files)), shrink)


@lru_cache(maxsize=4)
def _read(files: Files, stamps: tuple[tuple[int, int], ...], shrink: int) -> Pictures:
    """Decodes images, once for all the runs that a process makes on them."""
    return Pictures(tuple(_decode(data, where, shrink) for file in files for data, where in _encoded(file)))


def _encoded(file: Path) -> Iterator[tuple[bytes, str]]:
    """Yields the bytes of each image in a file, and where it lies."""
    if file.suffix != ".parquet":
        with reading(file):
            yield file.read_bytes(), str(file)
        return
    with open_parquet(file) as table:
        check_images(file, table.schema_arrow, "image")
        column = table.read(columns=["image"]).column("image")
    for row, value in enumerate(column):
        image = value.as_py()
        yield image["bytes"] if isinstance(image, dict) else image, f"row {row} of {file}"


def _decode(data: bytes, where: str, shrink: int) -> np.ndarray:
    try:
        image = convert(open_image(data), 3)
    except Exception as error:
        raise DataError(
            f"{where} cannot be decoded ({undecodable(error)})", "Each image is learned from", "Remove or replace it."
        ) from error
    size = image.width // shrink, image.height // shrink
    if min(size) < 1:
        raise DataError(
            f"data.shrink={shrink} leaves nothing of {where}, which has {image.width}x{image.height} pixels",
            "Images are made so many times smaller on each side before they are used",
            "Use a smaller data.shrink, or larger images.",
        )
    if shrink > 1:
        image = image.resize(size, Image.Resampling.BICUBIC)
    return np.ascontiguousarray(to_pixels(image, 3))
