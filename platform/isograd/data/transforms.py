"""From stored images to what a network sees: augmentation of batches, and normalisation.

Augmentations draw from a generator that the caller names by (seed, epoch, batch), on the CPU; so the same images are
drawn whatever the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd.data.batch import Batch
from isograd.data.field import Tree


class BatchTransform(Protocol):
    """Augments batches. What is random is drawn for a global batch at once, of which a worker may apply its part."""

    def draw(self, size: int, generator: torch.Generator) -> Tree:
        """Returns random numbers for ``size`` samples, by name; their first axis is the sample."""
        ...

    def apply(self, batch: Batch, draws: Tree) -> Batch:
        """Returns the batch augmented, with the draws of its samples."""
        ...


@dataclass(frozen=True)
class Unchanged:
    """No augmentation. Implements :class:`BatchTransform`."""

    def draw(self, size: int, generator: torch.Generator) -> Tree:
        """Draws nothing."""
        return {}

    def apply(self, batch: Batch, draws: Tree) -> Batch:
        """Returns the batch."""
        return batch


UNCHANGED = Unchanged()


@dataclass(frozen=True)
class Augmentation:
    """Random crop after padding, and random horizontal flip, of the input ``image``. Implements `BatchTransform`.

    Attributes:
        padding: Pixels added on each side before a crop of the original size; 0 switches the crop off.
        padding_mode: ``reflect`` (InfoPro and its successors on CIFAR-10) or ``constant`` (zeros: DGL, SVHN, STL-10).
        flip: Whether half of the images are mirrored.
    """

    padding: int = 0
    padding_mode: str = "reflect"
    flip: bool = False

    def draw(self, size: int, generator: torch.Generator) -> Tree:
        """Returns ``top`` and ``left`` of each crop, and whether an image is ``mirrored``. Shapes: (B,)."""
        draws: dict[str, Tensor] = {}
        if self.padding:
            draws["top"], draws["left"] = torch.randint(2 * self.padding + 1, (2, size), generator=generator)
        if self.flip:
            draws["mirrored"] = torch.rand(size, generator=generator) < 0.5
        return draws

    def apply(self, batch: Batch, draws: Tree) -> Batch:
        """Crops and flips the images, (B, C, H, W)."""
        images = batch.inputs["image"]
        if self.padding:
            images = self._crop(images, draws["top"].to(images.device), draws["left"].to(images.device))
        if self.flip:
            mirrored = draws["mirrored"].to(images.device)[:, None, None, None]
            images = torch.where(mirrored, images.flip(-1), images)
        return replace(batch, inputs={**batch.inputs, "image": images})

    def _crop(self, images: Tensor, top: Tensor, left: Tensor) -> Tensor:
        batch, _, height, width = images.shape
        padded = F.pad(images, (self.padding,) * 4, mode=self.padding_mode)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, 2p+1, 2p+1, H, W), a view
        return windows[torch.arange(batch, device=images.device), :, top, left]  # (B, C, H, W)


class Normalize(nn.Module):
    """Maps uint8 pixels to normalised floats, and back to [0, 1] for losses that need the image.

    Args:
        mean: One value a channel, of pixels in [0, 1].
        std: One value a channel.

    Note:
        The way back is normalised * std + mean, as InfoPro's released code computes it, not pixel / 255. It differs by
        up to 6e-8, and is clamped: binary cross-entropy rejects targets outside [0, 1], which float64 produces.
    """

    mean: Tensor
    std: Tensor
    _last: ClassVar[tuple[Tensor, Any, Tensor] | None] = None  # pixels, the scale, and what was restored of them

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self._scale = tuple(mean), tuple(std)

    def forward(self, pixels: Tensor) -> Tensor:
        """Shapes: pixels (B, C, H, W) uint8 -> the same, floating."""
        unit_range = pixels.to(torch.float32) / 255
        return (unit_range.to(self.mean.dtype) - self.mean) / self.std

    def restore(self, pixels: Tensor) -> Tensor:
        """Returns the image a decoder shall reproduce, in [0, 1]. Shapes as :meth:`forward`.

        The result for the last batch is kept for the whole process: each local module asks for it, by an entry of its
        own.
        """
        scale, last = (self._scale, self.mean.dtype), Normalize._last
        if last is not None and last[0] is pixels and last[1] == scale:
            return last[2]
        restored = (self(pixels) * self.std + self.mean).clamp(0, 1)
        restored = restored.contiguous(memory_format=torch.channels_last)  # as decoders lay out theirs on a CPU
        Normalize._last = pixels, scale, restored
        return restored
