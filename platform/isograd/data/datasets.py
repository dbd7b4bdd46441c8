"""The data sets: one row each. A row says where the images lie and how they are usually trained on."""

import logging
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from isograd.data import labels, parquet, windows
from isograd.data.batch import Source
from isograd.data.identity import Identity, identity_of_arrays, identity_of_splits
from isograd.data.memory import Images, MemorySource
from isograd.data.transforms import Augmentation
from isograd.errors import DataError
from isograd.registry import Registry

_LOG = logging.getLogger(__name__)


@dataclass
class DataConfig:
    """A data set and how it is read.

    Attributes:
        name: Of the row.
        path: Folder of Parquet files in the Hugging Face layout; not used by ``digits``.
        num_classes: Y.
        image_shape: (C, H, W) of what the network gets.
        mean: Per channel, of pixels in [0, 1].
        std: Per channel.
        batch_size: Images a training or test batch, B.
        padding: Pixels of padding before the random crop; 0: no crop.
        padding_mode: ``reflect`` or ``constant``.
        flip: Random horizontal flip.
        loading: ``memory`` (decoded once, held where it is consumed) or ``stream`` (Ray Data).
        crop: ``exact`` (images already have the shape) or ``random`` (random resized crop; for tests resize and
            centre crop). ``stream`` only.
        resize: Of images to test on, the shorter side before the centre crop, pixels; null: 8/7 of the network's, as
            ImageNet's 256 of 224.
        image_column: Of the Parquet files.
        label_column: Of the Parquet files.
        test_split: Prefix of the files to test on. ``test`` where there are none is the one split of ``validation``,
            ``valid`` and ``val`` that is there; ``validation`` and ``val`` are each other.
        window: Rows that are shuffled among each other when streaming.
    """

    name: str = "digits"
    path: str = ""
    num_classes: int = 10
    image_shape: list[int] = field(default_factory=lambda: [3, 32, 32])
    mean: list[float] = field(default_factory=lambda: [0.5, 0.5, 0.5])
    std: list[float] = field(default_factory=lambda: [0.5, 0.5, 0.5])
    batch_size: int = 128
    padding: int = 0
    padding_mode: str = "reflect"
    flip: bool = False
    loading: str = "memory"
    crop: str = "exact"
    resize: int | None = None
    image_column: str = "image"
    label_column: str = "label"
    test_split: str = "test"
    window: int = 4096

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.image_shape
        return channels, height, width

    @property
    def test_resize(self) -> int:
        """Shorter side of images to test on before the centre crop, pixels."""
        return min(self.image_shape[1:]) * 8 // 7 if self.resize is None else self.resize


DATASETS: Registry[DataConfig] = Registry("data set")

_CIFAR_MEAN, _CIFAR_STD = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)
_HALF = [127.5 / 255] * 3


def _row(name: str, **fields: object) -> None:
    DATASETS.add(name, DataConfig(name=name, **fields))  # pyright: ignore[reportArgumentType]


_row("digits", image_shape=[1, 8, 8], mean=[0.306], std=[0.377], batch_size=64, padding=1, padding_mode="constant")
_row(
    "cifar10",
    path="data/cifar10",
    mean=[value / 255 for value in _CIFAR_MEAN],
    std=[value / 255 for value in _CIFAR_STD],
    padding=4,
    flip=True,
)
_row(
    "cifar100",
    path="data/cifar100",
    num_classes=100,
    mean=[129.3 / 255, 124.1 / 255, 112.4 / 255],
    std=[68.2 / 255, 65.4 / 255, 70.4 / 255],
    padding=4,
    flip=True,
)
_row("svhn", path="data/svhn", mean=_HALF, std=_HALF, padding=2, padding_mode="constant")
_row(
    "stl10",
    path="data/stl10",
    image_shape=[3, 96, 96],
    mean=_HALF,
    std=_HALF,
    padding=4,
    padding_mode="constant",
    flip=True,
)
_row(
    "imagenet",
    path="data/imagenet",
    num_classes=1000,
    image_shape=[3, 224, 224],
    mean=[0.485, 0.456, 0.406],
    std=[0.229, 0.224, 0.225],
    loading="stream",
    crop="random",
    test_split="validation",
)
_row("parquet", path="data")


def open_source(config: DataConfig, seed: int) -> Source:
    """Checks a data set and returns its batches.

    Raises:
        DataError: It is missing, empty, or has a single class, or a row of it is corrupt.

    It logs a warning where there are classes that no image to train on has, where what is trained on is tested on, or
    where rows are sorted by class, and streamed in windows that have few of them.
    """
    if config.name == "digits":
        _check_digits(config)
        return _memory(config, seed, *_digits())
    splits = _splits(config)
    _check_labels(config, splits)
    if config.loading == "stream":
        return _stream(config, seed, *splits)
    train, test = (_decoded(split, config.shape, config.num_classes, _written(split)) for split in splits)
    return _memory(config, seed, train, test)


def identify(config: DataConfig) -> Identity:
    """Returns what tells a data set from others, wherever it lies; reads no image.

    Raises:
        DataError: It is missing, or no data set.
    """
    if config.name == "digits":
        return identity_of_arrays(*((images.pixels, images.targets) for images in _digits()))
    train, test = _splits(config)
    return _identified(train, test, (*_written(train), *_written(test)))


@lru_cache(maxsize=8)
def _identified(
    train: parquet.ParquetSplit, test: parquet.ParquetSplit, written: tuple[tuple[int, int], ...]
) -> Identity:
    """Reads footers and labels once for all the runs that a process makes on them."""
    return identity_of_splits(train, test)


def _check_labels(config: DataConfig, splits: tuple[parquet.ParquetSplit, parquet.ParquetSplit]) -> None:
    train_labels, _ = (_labels(split, config.num_classes, _written(split)) for split in splits)
    if (train_labels == train_labels[0]).all():
        raise DataError(
            f"all {len(train_labels):,} images of the train split have label {train_labels[0]}",
            "Of a single class there is nothing to tell apart: the loss falls to 0, and means nothing",
            "Use a data set of two classes or more, or data.label_column=NAME with the column that has them.",
        )
    if config.test_split == "train":
        _LOG.warning("data.test_split=train: what is trained on is tested on, which says nothing of other images")
    num_named = max(split.num_named for split in splits)
    if unseen := labels.unseen(train_labels, config.num_classes):
        _LOG.warning(
            "%d of data.num_classes=%d classes have no image to train on: %s. The labels there are %d to %d%s",
            len(unseen),
            config.num_classes,
            ", ".join(map(str, unseen[:5])) + (", and others" if len(unseen) > 5 else ""),
            train_labels.min(),
            train_labels.max(),
            f", and {num_named} classes have names" if num_named else "",
        )
    _warn_if_sorted(config, splits[0], train_labels)


def _warn_if_sorted(config: DataConfig, train: parquet.ParquetSplit, train_labels: np.ndarray) -> None:
    if config.loading != "stream" or (np.diff(train_labels) < 0).any():
        return
    if (count := len(windows.cut_windows(train.groups, config.window))) > 1:
        _LOG.warning(
            "the rows to train on are sorted by class, and are shuffled in %d windows of about data.window=%d: batches "
            "will be of few classes. data.window=%d shuffles all; `isograd prepare` writes them in random order",
            count,
            config.window,
            train.num_rows,
        )


def _written(split: parquet.ParquetSplit) -> tuple[tuple[int, int], ...]:
    """Returns what changes when a file does: its time and its size."""
    found = (Path(file).stat() for file in split.files)
    return tuple((status.st_mtime_ns, status.st_size) for status in found)


@lru_cache(maxsize=8)
def _labels(split: parquet.ParquetSplit, num_classes: int, written: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Reads the labels of a split, once for all the runs that a process makes on it."""
    return parquet.check_labels(split, num_classes)


@lru_cache(maxsize=2)
def _decoded(
    split: parquet.ParquetSplit, shape: tuple[int, int, int], num_classes: int, written: tuple[tuple[int, int], ...]
) -> Images:
    """Decodes a split, once for all the runs that a process makes on it: those of a sweep, say."""
    return Images(*(tensor.numpy() for tensor in parquet.load_images(split, shape, num_classes)))


def _memory(config: DataConfig, seed: int, train: Images, test: Images) -> MemorySource:
    augmentation = Augmentation(config.padding, config.padding_mode, config.flip)
    return MemorySource(train, test, batch_size=config.batch_size, seed=seed, augmentation=augmentation)


def _splits(config: DataConfig) -> tuple[parquet.ParquetSplit, parquet.ParquetSplit]:
    return parquet.find_splits(config.path, config.test_split, config.image_column, config.label_column)


def _stream(config: DataConfig, seed: int, train: parquet.ParquetSplit, test: parquet.ParquetSplit) -> Source:
    from isograd.data import crops, stream

    shape, random_crop = config.shape, config.crop == "random"
    return stream.StreamSource(
        train=train,
        test=test,
        batch_size=config.batch_size,
        seed=seed,
        train_transform=crops.RandomResizedCrop(shape, flip=config.flip) if random_crop else crops.Exact(shape),
        test_transform=crops.ResizeCenterCrop(shape, config.test_resize) if random_crop else crops.Exact(shape),
        augmentation=Augmentation(config.padding, config.padding_mode, config.flip and not random_crop),
        window=config.window,
    )


def _check_digits(config: DataConfig) -> None:
    if config.shape != (1, 8, 8) or config.num_classes != 10:
        raise DataError(
            f"digits are 1x8x8 images of 10 classes, not {'x'.join(map(str, config.shape))} of {config.num_classes}",
            "The network is built for the images and classes that the data set has",
            "Use data.image_shape=[1,8,8] data.num_classes=10, or data=digits without either.",
        )


@lru_cache(maxsize=1)
def _digits() -> tuple[Images, Images]:
    """scikit-learn's bundled scans of handwritten digits, 8x8, 16 grey levels: 1,437 to train, 360 to test."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]  # (N, 1, 8, 8)
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(pixels))
    pixels, targets = pixels[order], bunch.target[order].astype(np.int64)
    num_test = 360
    return Images(pixels[num_test:], targets[num_test:]), Images(pixels[:num_test], targets[:num_test])
