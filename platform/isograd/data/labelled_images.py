"""What all kinds of classified images have in common: their fields, entry, augmentation and the checks of these."""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from isograd.data.dataset import DataConfig, Dataset
from isograd.data.field import Field, Fields
from isograd.data.transforms import Augmentation, Normalize
from isograd.errors import ConfigError
from isograd.options import Range, check_numbers, choice, number


@dataclass
class LabelledImagesConfig(DataConfig):
    """How classified images enter a network.

    Attributes:
        mean: Per channel, of pixels in [0, 1].
        std: Per channel.
        padding: Pixels of padding before the random crop; 0: no crop.
        padding_mode: ``reflect`` or ``constant``.
        flip: Random horizontal flip.
    """

    mean: list[float] = field(default_factory=lambda: [0.5, 0.5, 0.5])
    std: list[float] = field(default_factory=lambda: [0.5, 0.5, 0.5])
    padding: int = number(0, 0)
    padding_mode: str = choice("reflect", "constant")
    flip: bool = False


AnyConfig = TypeVar("AnyConfig", bound=LabelledImagesConfig)


class LabelledImages(Dataset[AnyConfig]):
    """Images of one shape, each of one class."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what the network gets."""

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """Y."""

    @property
    def inputs(self) -> Fields:
        """``image``, (C, H, W) uint8."""
        return {"image": Field(self.shape, torch.uint8, "image")}

    @property
    def targets(self) -> Fields:
        """``label``, one of Y."""
        return {"label": Field((), torch.int64, "label", num_values=self.num_classes)}

    @property
    def augmentation(self) -> Augmentation:
        """Crop and flip."""
        return Augmentation(self.config.padding, self.config.padding_mode, self.config.flip)

    def entry(self, name: str) -> Normalize:
        """Returns the normalisation of the pixels."""
        return Normalize(self.config.mean, self.config.std)

    def check(self) -> None:
        """As for all data; and the numbers of channels, and what is mirrored at the edges."""
        super().check()
        config, side = self.config, min(self.shape[1:])
        of_pixels = "one number a channel, of pixels in [0, 1]"
        check_numbers("data.mean", config.mean, self.shape[0], of_pixels, Range(0, 1), "0.5")
        check_numbers("data.std", config.std, self.shape[0], of_pixels, Range(0, 1, open=True), "0.5")
        if config.padding_mode == "reflect" and config.padding >= side:
            raise ConfigError(
                f"data.padding={config.padding} cannot be reflected in images of {side} pixels",
                "There are not as many pixels to mirror",
                f"Use data.padding={side - 1}{' or less' if side > 1 else ''}, or data.padding_mode=constant.",
            )
