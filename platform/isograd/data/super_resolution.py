"""Pairs of a small and a large image: the large one as it is stored, the small one made from it on the fly.

Images may differ in size. They are trained on in crops of one size, and validated and tested on whole, one by one.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from isograd.data.batch import Batch, num_batches
from isograd.data.dataset import DATASETS, Dataset, DatasetEntry, StoredConfig
from isograd.data.field import Field, Fields
from isograd.data.identity import Identity
from isograd.data.pictures import Pictures, find_files, read_images
from isograd.data.rows import Parted, hold_out
from isograd.data.shared import as_tensor
from isograd.data.transforms import Normalize
from isograd.errors import DataError
from isograd.options import Range, check_numbers, number
from isograd.seeding import generator

RGB_MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K, as EDSR has it
_LEAST_SIDE = 8  # of small images, pixels: SSIM has windows of 11, and the border is left out


@dataclass
class SuperResolutionConfig(StoredConfig):
    """Which images, and how they are cut.

    Attributes:
        path: Folder with images to train on: image files, or Parquet files with a column ``image``.
        test_path: Folder with images to test on.
        scale: How many times larger the large image is, on each side: 2, 3 or 4.
        crop: Side of the small images that are trained on, pixels.
        crops: How many crops of each image an epoch has.
        turns: Whether crops are mirrored and turned by quarters, each of the eight ways as often.
        shrink: Factor by which images to train and validate on are made smaller first, which hides JPEG's blocks.
        mean: Per channel, of pixels in [0, 1]; the network gets and makes pixels less this.
        value_range: What white is to the network, both ways; 255 in EDSR's release.
    """

    batch_size: int = number(16, 1)
    test_path: str = "data/set5"
    scale: int = number(2, 2, 4)
    crop: int = number(32, _LEAST_SIDE)
    crops: int = number(1, 1)
    turns: bool = True
    shrink: int = number(1, 1)
    mean: list[float] = field(default_factory=lambda: list(RGB_MEAN))
    value_range: float = number(1.0, 1e-6)


class Centre(Normalize):
    """Maps pixels to numbers of another range, less their mean.

    Args:
        mean: One value a channel, of pixels in [0, 1].
        value_range: What white becomes.
    """

    centre: Tensor

    def __init__(self, mean: Sequence[float], value_range: float) -> None:
        super().__init__(mean, [1 / value_range] * len(mean))
        self._exact, self._factor = [value_range * value for value in mean], value_range / 255
        self.register_buffer("centre", torch.tensor(self._exact, dtype=torch.float32), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Shapes: pixels (B, C, H, W) uint8 -> the same, floating."""
        centre = self.centre if self.centre.dtype == torch.float32 else self.centre.new_tensor(self._exact)
        return pixels.to(centre.dtype) * self._factor - centre.view(-1, 1, 1)


class SuperResolution(Dataset[SuperResolutionConfig]):
    """Images, and the same images ``scale`` times smaller."""

    Config = SuperResolutionConfig

    @property
    def inputs(self) -> Fields:
        """``image``, the small one, (3, h, w) uint8 of what is trained on; images to test on have any size."""
        return {"image": Field((3, self.config.crop, self.config.crop), torch.uint8, "image")}

    @property
    def targets(self) -> Fields:
        """``high``, the large one, (3, r h, r w) uint8."""
        config, side = self.config, self.config.scale * self.config.crop
        mean, value_range = tuple(config.mean), config.value_range
        return {"high": Field((3, side, side), torch.uint8, "image", mean=mean, value_range=value_range)}

    def entry(self, name: str) -> Centre:
        """Returns what subtracts the mean."""
        return Centre(self.config.mean, self.config.value_range)

    def check(self) -> None:
        """As for all data; and the numbers of the mean."""
        super().check()
        check_numbers("data.mean", self.config.mean, 3, "one number a channel, of pixels in [0, 1]", Range(0, 1), "0.5")

    def open(self, seed: int) -> "PairSource":
        """Reads all images. Raises DataError where there are none, or one cannot be read or is smaller than a crop."""
        config = self.config
        train, valid, test = self._splits()
        _check_sizes(train, config.scale, config.crop)
        for split in (valid, test):
            _check_sizes(split, config.scale, _LEAST_SIDE)
        return PairSource(
            *(train, valid, test),
            batch_size=config.batch_size,
            seed=seed,
            crops=Crops(config.crop, config.scale, config.turns),
            crops_per_image=config.crops,
        )

    def identify(self) -> Identity:
        """Returns what all pixels are."""
        digest, splits = hashlib.sha256(), self._splits()
        for image in (image for split in splits for image in split.images):
            digest.update(f"{image.shape} ".encode() + np.ascontiguousarray(image).tobytes())
        num_bytes = sum(split.num_bytes for split in splits)
        train, valid, test = (len(split.images) for split in splits)
        return Identity(digest.hexdigest()[:16], train, test, num_bytes, valid)

    def _splits(self) -> tuple[Pictures, Pictures, Pictures]:
        config = self.config
        files = find_files(config.path, config.test_path, validates=config.valid != 0)
        shrinks = config.shrink, config.shrink, 1
        train, valid, test = (read_images(*of_split) for of_split in zip(files, shrinks, strict=True))
        if valid.images or not config.valid:
            return train, valid, test
        held = hold_out(np.zeros(len(train.images), np.int64), config.valid)
        return train.part(~held), train.part(held), test


def _check_sizes(split: Pictures, scale: int, least: int) -> None:
    """Raises DataError where a small image would have a side of less than ``least`` pixels."""
    for _, height, width in (image.shape for image in split.images):
        if min(height, width) < scale * least:
            raise DataError(
                f"an image has {width}x{height} pixels, and the one made from it {width // scale}x{height // scale}",
                f"It needs {least} on each side: data.crop where it is trained on, else what metrics need",
                "Use larger images, or smaller numbers for data.crop, data.shrink or data.scale.",
            )


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns images resized by bicubic interpolation with antialiasing, as the published baselines are.

    Shapes: (B, C, H, W) uint8 -> (B, C, *size) uint8.
    """
    return F.interpolate(image, size, mode="bicubic", antialias=True)


def pair(high: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Returns the small and the large images; sides of the large ones lose what is no multiple of the scale.

    Shapes: (B, C, H, W) uint8 -> (B, C, H / r, W / r), (B, C, r (H / r), r (W / r)).
    """
    height, width = high.shape[2] // scale, high.shape[3] // scale
    high = high[:, :, : scale * height, : scale * width].contiguous()
    return resize(high, (height, width)), high


@dataclass(frozen=True)
class Crops:
    """Random crops of one size, in one of eight positions.

    Attributes:
        side: Of the small image, pixels.
        scale: How many times larger the large one is.
        turns: Whether crops are mirrored and turned.
    """

    side: int
    scale: int
    turns: bool

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Returns where crops lie, as shares of the room that there is, and their turns: (size, 3) in [0, 1)."""
        return torch.rand(size, 3, generator=generator, dtype=torch.float64)

    def cut(self, image: Tensor, drawn: Sequence[float]) -> Tensor:
        """Returns one crop. Shapes: (C, H, W) -> (C, r side, r side)."""
        side = self.scale * self.side
        top, left = (int(share * (room - side + 1)) for share, room in zip(drawn, image.shape[1:], strict=False))
        crop = image[:, top : top + side, left : left + side]
        if not self.turns:
            return crop
        turn, is_mirrored = divmod(int(8 * drawn[2]), 2)
        turned = crop.rot90(turn, (1, 2))
        return turned.flip(2) if is_mirrored else turned


class PairSource(Parted):
    """Batches of crops to train on, and of single whole images otherwise. Implements `Source`.

    What is drawn of a crop depends on the seed, the epoch, the number of the batch and the row in it alone.

    Args:
        train: Images to train on.
        valid: To validate on; there may be none.
        test: To test on.
        batch_size: Crops a batch, B.
        seed: Of the order and of the crops.
        crops: What is cut.
        crops_per_image: Of an epoch.
    """

    def __init__(
        self,
        train: Pictures,
        valid: Pictures,
        test: Pictures,
        *,
        batch_size: int,
        seed: int,
        crops: Crops,
        crops_per_image: int = 1,
    ) -> None:
        counts = crops_per_image * len(train.images), len(valid.images), len(test.images)
        held_bytes = train.num_bytes + valid.num_bytes + test.num_bytes
        super().__init__(counts, batch_size, test_batch_size=1, held_bytes=held_bytes)
        self._train, self._valid, self._test, self.seed, self.crops = train, valid, test, seed, crops

    def train(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yields the epoch's batches, shuffled by (seed, epoch), cut by (seed, epoch, batch number)."""
        order = torch.randperm(self.num_train, generator=generator(self.seed, "order", epoch))
        for batch in range(first, num_batches(self.num_train, self.batch_size)):
            rows = order[batch * self.batch_size : (batch + 1) * self.batch_size] % len(self._train.images)
            drawn = self.crops.draw(len(rows), generator(self.seed, "augment", epoch, batch)).tolist()
            places = self._part.of(len(rows), batch)
            yield self._crops(rows[places], drawn[places], batch)

    def valid(self) -> Iterator[Batch]:
        """Yields the images to validate on, one by one."""
        return self._in_order(self._valid)

    def test(self) -> Iterator[Batch]:
        """Yields the images to test on, one by one."""
        return self._in_order(self._test)

    def _crops(self, rows: Tensor, drawn: Sequence[Sequence[float]], number: int) -> Batch:
        images = [as_tensor(self._train.images[row]) for row in rows.tolist()]
        crops = [self.crops.cut(image, draws) for image, draws in zip(images, drawn, strict=True)]
        side = self.crops.scale * self.crops.side
        high = torch.stack(crops) if crops else torch.empty(0, 3, side, side, dtype=torch.uint8)
        return _batch(high, self.crops.scale, rows, number)

    def _in_order(self, split: Pictures) -> Iterator[Batch]:
        for row, image in enumerate(split.images):
            mine = self._part.of(1, row)
            yield _batch(as_tensor(image)[None][mine], self.crops.scale, torch.tensor([row])[mine], row)


def _batch(high: Tensor, scale: int, rows: Tensor, number: int) -> Batch:
    image, high = pair(high, scale)
    return Batch({"image": image}, {"high": high}, rows, number)


def _add_row(name: str, **options: Any) -> None:
    DATASETS.add(name, DatasetEntry(SuperResolutionConfig(name=name, **options), SuperResolution))


_add_row("camvid_set5", path="data/camvid/train/images", test_path="data/set5", shrink=2)
_add_row("super_resolution")
