"""Classified images in Parquet files, in memory or streamed: a row a data set, as it is usually trained on."""

import hashlib
import logging
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from isograd.data import labels, parquet, stored_images, windows
from isograd.data.access import read_footer, stamp
from isograd.data.batch import Source
from isograd.data.dataset import DATASETS, DatasetEntry, StoredConfig
from isograd.data.identity import Identity
from isograd.data.label_checks import check_labels
from isograd.data.labelled_images import LabelledImages, LabelledImagesConfig
from isograd.data.memory import MemorySource, Samples
from isograd.data.parquet import ParquetSplit
from isograd.data.rows import hold_out
from isograd.data.transforms import Augmentation
from isograd.errors import ConfigError, DataError
from isograd.options import choice, number

_LOG = logging.getLogger(__name__)
_CHANNELS = (1, 3)  # grey, RGB


@dataclass
class ImagesConfig(StoredConfig, LabelledImagesConfig):  # pyright: ignore[reportIncompatibleVariableOverride]
    """Where images lie, and how they are read.

    Attributes:
        path: Folder of Parquet files in the Hugging Face layout.
        num_classes: Y.
        image_shape: (C, H, W) of what the network gets.
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

    num_classes: int = number(10, 2, labels.MOST_CLASSES)
    image_shape: list[int] = field(default_factory=lambda: [3, 32, 32])
    loading: str = choice("memory", "stream")
    crop: str = choice("exact", "random")
    resize: int | None = number(None, 1)
    image_column: str = "image"
    label_column: str = "label"
    test_split: str = "test"
    window: int = number(4096, 1)

    @property
    def streams(self) -> bool:
        """Whether Ray Data reads the images."""
        return self.loading == "stream"

    @property
    def test_resize(self) -> int:
        """Shorter side of images to test on before the centre crop, pixels."""
        return min(self.image_shape[1:]) * 8 // 7 if self.resize is None else self.resize


class Splits(NamedTuple):
    """The rows to train, to validate and to test on; of the second there may be none."""

    train: ParquetSplit
    valid: ParquetSplit
    test: ParquetSplit


class Images(LabelledImages[ImagesConfig]):
    """Images in Parquet files, each of one class."""

    Config = ImagesConfig

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what the network gets."""
        channels, height, width = self.config.image_shape
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """Y."""
        return self.config.num_classes

    def check(self) -> None:
        """As for all classified images; and their number of classes, their shape and how they come by it."""
        self._check_classes()
        self._check_shape()
        super().check()
        self._check_crop()

    def open(self, seed: int) -> Source:
        """Checks the files and returns their batches.

        It logs a warning where there are classes that no image to train on has, where what is trained on is tested on,
        or where rows are sorted by class, and streamed in windows that have few of them.

        Raises:
            DataError: The images are missing, or have a single class, or a row is corrupt, or a class would be left
                empty by what is held out.
        """
        config, splits = self.config, self._splits()
        self._check_labels(splits)
        splits = self._hold_out(splits)
        if config.streams:
            return self._stream(seed, splits)
        train, valid, test = (_decode(split, self.shape, config.num_classes, _stat_files(split)) for split in splits)
        return MemorySource(
            *(train, valid, test), batch_size=config.batch_size, seed=seed, augmentation=self.augmentation
        )

    def identify(self) -> Identity:
        """Returns what the files are; reads no image. Raises DataError where they are missing, or no data set."""
        splits = self._hold_out(self._splits())
        return _identify(splits, tuple(_stat_files(split) for split in splits))

    def _splits(self) -> Splits:
        config = self.config
        columns = config.image_column, config.label_column
        return Splits(*parquet.find_splits(config.path, config.test_split, *columns, validates=config.valid != 0))

    def _hold_out(self, splits: Splits) -> Splits:
        """Returns the splits with a part of the training split to validate on, if that is asked for and needed."""
        share, train = self.config.valid, splits.train
        if not share or splits.valid.num_rows:
            return splits
        held = hold_out(self._labels(train), share)
        return Splits(train.part(~held), train.part(held), splits.test)

    def _labels(self, split: ParquetSplit) -> np.ndarray:
        return _labels(split, self.config.num_classes, _stat_files(split))

    def _stream(self, seed: int, splits: Splits) -> Source:
        from isograd.data import crops, stream

        config, shape = self.config, self.shape
        random_crop = config.crop == "random"
        return stream.StreamSource(
            *splits,
            batch_size=config.batch_size,
            seed=seed,
            train_transform=crops.RandomResizedCrop(shape, flip=config.flip) if random_crop else crops.Exact(shape),
            test_transform=crops.ResizeCenterCrop(shape, config.test_resize) if random_crop else crops.Exact(shape),
            augmentation=Augmentation(config.padding, config.padding_mode, config.flip and not random_crop),
            window=config.window,
        )

    def _check_classes(self) -> None:
        """Says more than that the number is out of range: to name another one would not mend it."""
        if self.config.num_classes < 2:
            raise ConfigError(
                f"data.num_classes={self.config.num_classes} leaves nothing to tell apart",
                "The loss of a single class is 0 whatever the network says, and so is its error",
                "Use data.num_classes=N with the number of classes of the data set, 2 or more.",
            )

    def _check_shape(self) -> None:
        """Raises ConfigError for what is not [C, H, W]; nearly always it is the same in another order."""
        shape = self.config.image_shape
        if len(shape) == 3 and shape[0] in _CHANNELS and min(shape) >= 1:
            return
        last = len(shape) == 3 and shape[2] in _CHANNELS and min(shape) >= 1
        likely = [shape[2], *shape[:2]] if last else [3, *shape] if len(shape) == 2 and min(shape) >= 1 else [3, 32, 32]
        raise ConfigError(
            f"data.image_shape={list(shape)} does not fit",
            "It is [C, H, W]: 1 or 3 channels, as images are decoded to grey or RGB; then height and width, at least 1",
            f"Use data.image_shape=[{','.join(map(str, likely))}], for example.",
        )

    def _check_crop(self) -> None:
        config, side = self.config, min(self.shape[1:])
        if config.crop == "exact" and config.resize is not None:
            raise ConfigError(
                f"data.resize={config.resize} is not used with data.crop=exact",
                "Images have the shape that the network gets already, and none is resized",
                "Use data.loading=stream data.crop=random, or leave data.resize out.",
            )
        if config.crop == "random" and config.test_resize < side:
            raise ConfigError(
                f"data.resize={config.resize} is less than {side}, the shorter side of data.image_shape="
                f"{config.image_shape}",
                "Images to test on are scaled to it before their centre is cropped: the rest would be black",
                f"Use data.resize={side * 8 // 7}, or leave it out.",
            )
        if config.crop == "random" and not config.streams:
            raise ConfigError(
                f"data.loading={config.loading} does not go with data={config.name} data.crop={config.crop}",
                "Images held in memory all have the shape that the network gets",
                "Use data.loading=stream.",
            )

    def _check_labels(self, splits: Splits) -> None:
        config = self.config
        train_labels, *_ = (self._labels(split) for split in splits if split.num_rows)
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
        self._warn_if_sorted(splits.train, train_labels)

    def _warn_if_sorted(self, train: ParquetSplit, train_labels: np.ndarray) -> None:
        config = self.config
        if not config.streams or (np.diff(train_labels) < 0).any():
            return
        if (count := len(windows.cut_windows(train.groups, config.window))) > 1:
            _LOG.warning(
                "the rows to train on are sorted by class, and are shuffled in %d windows of about data.window=%d: "
                "batches will be of few classes. data.window=%d shuffles all; `isograd prepare` writes them in random "
                "order",
                count,
                config.window,
                train.num_rows,
            )


def _stat_files(split: ParquetSplit) -> tuple[tuple[int, int], ...]:
    return tuple(map(stamp, split.files))


@lru_cache(maxsize=8)
def _labels(split: ParquetSplit, num_classes: int, stats: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Reads the labels of a split, once for all the runs that a process makes on it."""
    return check_labels(split, num_classes)


@lru_cache(maxsize=3)
def _decode(
    split: ParquetSplit, shape: tuple[int, int, int], num_classes: int, stats: tuple[tuple[int, int], ...]
) -> Samples:
    """Decodes a split, once for all the runs that a process makes on it: those of a sweep, say."""
    images, targets = stored_images.load_images(split, shape, num_classes)
    return Samples({"image": images.numpy()}, {"label": targets.numpy()})


@lru_cache(maxsize=8)
def _identify(splits: Splits, stats: tuple[tuple[tuple[int, int], ...], ...]) -> Identity:
    """Reads footers and labels once for all the runs that a process makes on them."""
    digest, num_bytes = hashlib.sha256(), {}
    for split in (split for split in splits if split.num_rows):
        for file in split.files:
            num_bytes[file], footer = read_footer(file)
            digest.update(f"{num_bytes[file]} {len(footer)} ".encode() + footer)
        numbers = split.read_labels()
        digest.update(f"{split.num_rows} {numbers.null_count} {split.names!r}".encode() + split.kept)
        digest.update(numbers.fill_null(-1).to_numpy().tobytes())
    train, valid, test = (split.num_rows for split in splits)
    return Identity(digest.hexdigest()[:16], train, test, sum(num_bytes.values()), valid)


def _add_row(name: str, **options: Any) -> None:
    DATASETS.add(name, DatasetEntry(ImagesConfig(name=name, **options), Images))


def _of_bytes(*values: float) -> list[float]:
    return [value / 255 for value in values]


_HALF = _of_bytes(127.5, 127.5, 127.5)
_add_row(
    "cifar10",
    path="data/cifar10",
    mean=_of_bytes(125.3, 123.0, 113.9),
    std=_of_bytes(63.0, 62.1, 66.7),
    padding=4,
    flip=True,
)
_add_row(
    "cifar100",
    path="data/cifar100",
    num_classes=100,
    mean=_of_bytes(129.3, 124.1, 112.4),
    std=_of_bytes(68.2, 65.4, 70.4),
    padding=4,
    flip=True,
)
_add_row("svhn", path="data/svhn", mean=_HALF, std=_HALF, padding=2, padding_mode="constant")
_add_row(
    "stl10",
    path="data/stl10",
    image_shape=[3, 96, 96],
    mean=_HALF,
    std=_HALF,
    padding=4,
    padding_mode="constant",
    flip=True,
)
_add_row(
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
_add_row("parquet")
