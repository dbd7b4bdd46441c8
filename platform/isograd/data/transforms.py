"""From stored images to what a network sees: augmentation of uint8 batches, and normalisation.

Augmentations draw from a generator that the caller names by (seed, epoch, batch), on the CPU; so the same images are
drawn whatever the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Augmentation:
    """Random crop after padding, and random horizontal flip.

    Attributes:
        padding: Pixels added on each side before a crop of the original size; 0 switches the crop off.
        padding_mode: ``reflect`` (InfoPro and its successors on CIFAR-10) or ``constant`` (zeros: DGL, SVHN, STL-10).
        flip: Whether half of the images are mirrored.
    """

    padding: int = 0
    padding_mode: str = "reflect"
    flip: bool = False

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shapes: images (B, C, H, W) uint8 -> the same."""
        if self.padding:
            images = self._crop(images, generator)
        if self.flip:
            mirrored = torch.rand(images.shape[0], generator=generator) < 0.5
            images = torch.where(mirrored.to(images.device)[:, None, None, None], images.flip(-1), images)
        return images

    def _crop(self, images: Tensor, generator: torch.Generator) -> Tensor:
        batch, _, height, width = images.shape
        offsets = torch.randint(2 * self.padding + 1, (2, batch), generator=generator).to(images.device)
        padded = F.pad(images, (self.padding,) * 4, mode=self.padding_mode)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, 2p+1, 2p+1, H, W), a view
        rows = torch.arange(batch, device=images.device)
        return windows[rows, :, offsets[0], offsets[1]]  # (B, C, H, W)


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

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self._restored: tuple[Tensor, Tensor] = (self.mean, self.mean)

    def forward(self, pixels: Tensor) -> Tensor:
        """Shapes: pixels (B, C, H, W) uint8 -> the same, floating."""
        unit_range = pixels.to(torch.float32) / 255
        return (unit_range.to(self.mean.dtype) - self.mean) / self.std

    def restore(self, pixels: Tensor) -> Tensor:
        """Returns the image a decoder shall reproduce, in [0, 1]. Shapes as :meth:`forward`.

        The result for the last batch is kept, because every local module of a process asks for the same one.
        """
        source, restored = self._restored
        if source is not pixels or restored.dtype != self.mean.dtype:
            restored = (self(pixels) * self.std + self.mean).clamp(0, 1)
            restored = restored.contiguous(memory_format=torch.channels_last)  # as decoders lay out theirs on a CPU
            self._restored = (pixels, restored)
        return restored
