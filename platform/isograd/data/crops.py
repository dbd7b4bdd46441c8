"""What makes all images of a stream one size, image by image, where they are decoded. No torch: workers import this."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from isograd.data.decoding import convert, to_pixels
from isograd.errors import DataError


class ImageTransform(Protocol):
    """Makes all images one size, and may augment them; runs once an image, where the image is decoded.

    Draws from nothing but ``generator``, which (seed, epoch, row) names: batch and worker do not matter. Picklable.
    """

    def __call__(self, image: Image.Image, generator: np.random.Generator) -> np.ndarray:
        """Returns (C, H, W) uint8, of a size that is the same for all images."""
        ...


@dataclass(frozen=True)
class Exact:
    """Takes images as stored, of ``image_size`` (C, H, W); C converts. Raises DataError where one has another size."""

    image_size: tuple[int, int, int]

    def __call__(self, image: Image.Image, generator: np.random.Generator) -> np.ndarray:
        """Returns (C, H, W) uint8; draws nothing."""
        channels, height, width = self.image_size
        if image.size != (width, height):
            raise DataError(
                f"an image is {image.height}x{image.width}, not {height}x{width}",
                "Images of a batch must have one size, and nothing resizes them here",
                "Use data.loading=stream data.crop=random, which resizes; or, where all images have this size, "
                f"data.image_shape=[{channels},{image.height},{image.width}].",
            )
        return to_pixels(image, channels)


@dataclass(frozen=True)
class RandomResizedCrop:
    """Crops a random part and scales it (Szegedy et al. 2015), as torchvision's transform of that name does.

    Attributes:
        image_size: (C, H, W) of the result; C is 1 or 3, and converts.
        scale: Range of the part's area, as a share of the image's.
        ratio: Range of its width / height; uniform in the logarithm.
        flip: Whether half of the images are mirrored.
    """

    image_size: tuple[int, int, int]
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True

    def __call__(self, image: Image.Image, generator: np.random.Generator) -> np.ndarray:
        """Returns (C, H, W) uint8."""
        channels, height, width = self.image_size
        part = convert(image, channels).crop(self.box(image.width, image.height, generator))
        pixels = to_pixels(part.resize((width, height), Image.Resampling.BILINEAR), channels)
        return pixels[:, :, ::-1] if self.flip and generator.random() < 0.5 else pixels

    def box(self, width: int, height: int, generator: np.random.Generator) -> tuple[int, int, int, int]:
        """Returns (left, top, right, bottom) of a part of the image; ten tries, then the largest central one."""
        for _ in range(10):
            area = width * height * generator.uniform(*self.scale)
            ratio = math.exp(generator.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                left, top = int(generator.integers(width - w + 1)), int(generator.integers(height - h + 1))
                return left, top, left + w, top + h
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
        left, top = (width - w) // 2, (height - h) // 2
        return left, top, left + w, top + h


@dataclass(frozen=True)
class ResizeCenterCrop:
    """Scales the image, then crops the centre: torchvision's Resize and CenterCrop.

    Attributes:
        image_size: (C, H, W) of the result; C is 1 or 3, and converts.
        resize: What the shorter of H and W is a part of: the image is scaled until it just covers the result enlarged
            to a shorter side of so many pixels. Of a square result, that is the shorter side of the scaled image.
    """

    image_size: tuple[int, int, int]
    resize: int

    def __call__(self, image: Image.Image, generator: np.random.Generator) -> np.ndarray:
        """Returns (C, H, W) uint8; draws nothing."""
        channels, height, width = self.image_size
        scaled = self.scaled_size(image.width, image.height)
        image = convert(image, channels).resize(scaled, Image.Resampling.BILINEAR)
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        return to_pixels(image.crop((left, top, left + width, top + height)), channels)

    def scaled_size(self, width: int, height: int) -> tuple[int, int]:
        """Returns the width and height to which an image of this width and height is scaled."""
        _, *crop = self.image_size
        rows, columns = (self.resize * side // min(crop) for side in crop)
        if rows * width >= columns * height:
            return rows * width // height, rows
        return columns, columns * height // width
