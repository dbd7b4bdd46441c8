"""scikit-learn's bundled scans of handwritten digits: 8x8 pixels, 16 grey levels, 1,437 to train on and 360 to test."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from isograd.data.dataset import DATASETS, DatasetEntry
from isograd.data.identity import Identity, identity_of_samples
from isograd.data.labelled_images import LabelledImages, LabelledImagesConfig
from isograd.data.memory import MemorySource, Samples
from isograd.data.rows import hold_out
from isograd.options import choice, number

NUM_TEST = 360


@dataclass
class DigitsConfig(LabelledImagesConfig):
    """As of all classified images, with the digits' own values."""

    name: str = "digits"
    batch_size: int = number(64, 1)
    mean: list[float] = field(default_factory=lambda: [0.306])
    std: list[float] = field(default_factory=lambda: [0.377])
    padding: int = number(1, 0)
    padding_mode: str = choice("constant", "reflect")


class Digits(LabelledImages[DigitsConfig]):
    """Grey images of 8x8 pixels, each one of ten digits."""

    Config = DigitsConfig

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return 1, 8, 8

    @property
    def num_classes(self) -> int:
        """One for each digit."""
        return 10

    def open(self, seed: int) -> MemorySource:
        """Returns the batches. Raises DataError where too few digits are held out."""
        config = self.config
        return MemorySource(*self._splits(), batch_size=config.batch_size, seed=seed, augmentation=self.augmentation)

    def identify(self) -> Identity:
        """Returns what all pixels and labels are."""
        return identity_of_samples(*self._splits())

    def _splits(self) -> tuple[Samples, Samples, Samples]:
        return _splits(self.config.valid or 0)


@lru_cache(maxsize=2)
def _splits(share: float) -> tuple[Samples, Samples, Samples]:
    """Returns the digits to train, to validate and to test on."""
    from sklearn.datasets import load_digits  # takes seconds

    bunch: Any = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]  # (N, 1, 8, 8)
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(pixels))
    digits = Samples({"image": pixels[order]}, {"label": bunch.target[order].astype(np.int64)})
    train, test = digits.part(slice(NUM_TEST, None)), digits.part(slice(NUM_TEST))
    if not share:
        return train, train.part(slice(0)), test
    held = hold_out(train.targets["label"], share)
    return train.part(~held), train.part(held), test


DATASETS.add("digits", DatasetEntry(DigitsConfig(), Digits))
