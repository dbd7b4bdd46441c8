"""Small originals, and what was made of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from isograd.data.parquet import find_split

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


def rows(folder: Path, split: str) -> list[dict[str, Any]]:
    return [row for file in find_split(folder, split).files for row in pq.read_table(file).to_pylist()]
