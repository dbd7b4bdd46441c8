"""Small originals, and what was made of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from isograd.data.parquet import ParquetSplit, read_split
from isograd.data.shards import find_shards
from isograd.errors import DataError
from isograd.prepare.conversion import STAMP

CLASSES = ["cat", "dog", "frog"]


def write_folder(root: Path, test: str = "test") -> Path:
    """An ImageFolder of JPEG files of two sizes, the last one PNG."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 9), (test, 3)):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                image = Image.fromarray(generator.integers(0, 256, (8, 8 + number % 2, 3), dtype=np.uint8))
                image.save(root / split / name / f"{number}.{'png' if number == count - 1 else 'jpg'}")
    return root


def find_split(folder: str | Path, split: str, image: str = "image", label: str = "label") -> ParquetSplit:
    """Returns one split of a folder, whose images and labels lie in these columns."""
    return read_split(find_shards(Path(folder), split), split, image, label)


def rows(folder: Path, split: str) -> list[dict[str, Any]]:
    return [row for file in find_split(folder, split).files for row in pq.read_table(file).to_pylist()]


def refusal(*parts: str):
    """Expects a DataError whose text has all the parts, in this order."""
    return pytest.raises(DataError, match="(?s)" + ".*".join(parts))


def contents(folder: Path) -> dict[str, bytes]:
    """Returns what was prepared, without what depends on the original's place and times."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != STAMP}
