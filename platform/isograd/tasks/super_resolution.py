"""Super-resolution: the mean absolute error of a larger image, judged by PSNR on its luma.

How papers measure it, EDSR's code as well: predictions are clamped and rounded to whole numbers, a border as wide as
the scale is left out, and what is compared is Y of BT.601; PSNR is averaged over images in dB.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd.data.field import Field, Fields, Tree
from isograd.errors import TaskError, UnknownNameError
from isograd.models.backbone import MAIN, Feature
from isograd.tasks.task import TASKS, Form, Head, Metrics, Score, Task, only_field

_LUMA = (65.738 / 256, 129.057 / 256, 25.064 / 256)  # of R, G, B in 0..255; plus 16
_LEAST_ERROR = 1e-10  # of a perfect image: 148 dB instead of infinitely many
_WINDOW, _SIGMA = 11, 1.5  # of SSIM


@lru_cache(maxsize=16)
def _per_channel(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Returns constants, (C, 1, 1), which are sent to a device once and not in every step."""
    return torch.tensor(values, device=device, dtype=dtype).view(-1, 1, 1)


def luma(image: Tensor) -> Tensor:
    """Returns Y of BT.601, 16 to 235. Shapes: (B, 3, H, W) in 0..255 -> (B, 1, H, W) float32."""
    weights = _per_channel(_LUMA, image.device, torch.float32)
    return (image.to(torch.float32) * weights).sum(dim=1, keepdim=True) + 16


def psnr(first: Tensor, second: Tensor) -> Tensor:
    """Returns the peak signal-to-noise ratio of each image, dB. Shapes: (B, 1, H, W) in 0..255 twice -> (B,)."""
    error = (first - second).to(torch.float64).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(255**2 / error.clamp(min=_LEAST_ERROR))


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Returns the structural similarity of each image (Wang et al. 2004): Gaussian windows, those within the image.

    Shapes: (B, 1, H, W) in 0..255 twice -> (B,).
    """
    offsets = torch.arange(_WINDOW, device=first.device, dtype=torch.float64) - _WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    weights = weights / weights.sum()

    def smooth(value: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(value, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))

    first, second = first.to(torch.float64), second.to(torch.float64)  # variances are differences of large numbers
    mean_1, mean_2 = smooth(first), smooth(second)
    variance_1, variance_2 = smooth(first * first) - mean_1**2, smooth(second * second) - mean_2**2
    covariance = smooth(first * second) - mean_1 * mean_2
    c_1, c_2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_1 * mean_2 + c_1) * (2 * covariance + c_2)
    return (similarity / ((mean_1**2 + mean_2**2 + c_1) * (variance_1 + variance_2 + c_2))).mean(dim=(1, 2, 3))


class LumaMetrics(Metrics):
    """PSNR and SSIM on the luma, means over images.

    Args:
        high: Name of the image that is predicted.
        scale: Width of the border that is left out, pixels.
        mean: What predictions are less by, per channel.
        value_range: What white is in a prediction.
        device: Where predictions are.
    """

    def __init__(
        self, high: str, scale: int, mean: tuple[float, ...], value_range: float, device: torch.device
    ) -> None:
        super().__init__(2, device)
        self._high, self._scale = high, scale
        self._mean, self._factor = _per_channel(mean, device, torch.float64), 255 / value_range

    def measure(self, prediction: Tree, targets: Tree) -> Tensor:
        """Returns the sums over a batch. Shapes: (B, 3, r h, r w) twice -> (2,)."""
        image = (prediction[self._high].to(torch.float64) + self._mean) * self._factor
        return self.compare(image.clamp(0, 255).round(), targets[self._high])

    def compare(self, image: Tensor, high: Tensor) -> Tensor:
        """Returns the sums for images of whole numbers. Shapes: (B, 3, H, W) in 0..255 twice -> (2,)."""
        border = self._scale
        first, second = (luma(value)[..., border:-border, border:-border] for value in (image, high))
        return torch.stack([psnr(first, second).sum(), ssim(first, second).sum()])

    def compute(self) -> dict[str, float]:
        """Returns ``psnr``, dB, and ``ssim``."""
        means = (self.sums / self.num_samples).tolist() if self.num_samples else []
        return dict(zip(("psnr", "ssim"), means, strict=False))


class LightTail(nn.Module):
    """The auxiliary network: what is alive is summed, and one convolution makes the pixels.

    Shapes: maps of (B, F, h, w) -> (B, 3, r h, r w).
    """

    def __init__(self, channels: int, out_channels: int, scale: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, scale**2 * out_channels, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, value: Tensor, *others: Tensor) -> Tensor:
        """Returns the large image."""
        return self.shuffle(self.conv(sum(others, value)))


class ConvolvedTail(LightTail):
    """A light tail behind a convolution and ReLU on the main value: what DGL has of its own."""

    def __init__(self, channels: int, out_channels: int, scale: int) -> None:
        super().__init__(channels, out_channels, scale)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, value: Tensor, *others: Tensor) -> Tensor:
        """Returns the large image."""
        return super().forward(F.relu(self.first(value)), *others)


_FORMS = {"auto": ConvolvedTail, "convolved": ConvolvedTail, "linear": LightTail}


@TASKS.register("super_resolution")
class SuperResolution(Task):
    """An image that is a whole number of times as large.

    Note:
        No paper of local learning publishes the auxiliary networks that it enlarges images with. Ours end in a light
        tail, since one at every module doubles the memory for maps of the large size.
    """

    example = (
        *("data=camvid_set5", "data.crop=8", "data.batch_size=8"),
        *("model=edsr_small", "model.width=8", "optimizer=adam"),
    )
    score = Score("psnr", "dB", higher_is_better=True, label="PSNR-Y")

    @dataclass
    class Config:
        """No options: what a network's images are less by, and their range, the data says."""

        name: str = "super_resolution"

    def __init__(self, config: Config, inputs: Fields, targets: Fields) -> None:
        super().__init__(config, inputs, targets)
        _, image = only_field(inputs, "image", of="inputs", task="super_resolution")
        self.high, high = only_field(targets, "image", of="targets", task="super_resolution")
        self.scale = _scale(image, high)
        self.output = {self.high: Field(high.shape, torch.float32, "image")}
        self._value_range = high.value_range
        self._mean = tuple(high.value_range * mean for mean in high.mean or (0.0,))

    def head(self, live: Mapping[str, Feature], form: Form) -> Head:
        """Builds a light tail on the main value and those of its shape, such as a skip over all blocks."""
        if form.name not in _FORMS:
            raise UnknownNameError(
                f"task=super_resolution has no auxiliary network '{form.name}'",
                f"Known are: {', '.join(_FORMS)}",
                "Use auto.",
            )
        maps = [name for name, feature in live.items() if name != MAIN and feature == live.get(MAIN)]
        if MAIN not in live or live[MAIN].layout != "NCHW":
            raise TaskError(
                f"task=super_resolution has no map to predict from: alive at the cut are {', '.join(live)}",
                f"Its auxiliary networks are convolutions on the chain's main value, '{MAIN}'",
                "Use a model whose blocks keep maps with channels first, or other cuts.",
            )
        module = _FORMS[form.name](live[MAIN].channels, self.output[self.high].fixed_shape[0], self.scale)
        return Head(module, (MAIN, *maps), (self.high,))

    def loss(self, prediction: Tree, targets: Tree) -> tuple[Tensor, int]:
        """Returns the mean absolute error. Shapes: (B, 3, r h, r w) twice -> ()."""
        image = prediction[self.high]
        image = image.to(torch.promote_types(image.dtype, torch.float32))  # bfloat16 has no 256 greys
        high = targets[self.high].to(image.dtype) * (self._value_range / 255)
        high = high - _per_channel(self._mean, image.device, image.dtype)
        return F.l1_loss(image, high), high.numel()

    def metrics(self, device: torch.device) -> LumaMetrics:
        """Returns empty sums of both metrics."""
        return LumaMetrics(self.high, self.scale, self._mean, self._value_range, device)

    @property
    def forms(self) -> tuple[str, ...]:
        """``convolved``, which is ``auto``, and ``linear``, the tail alone."""
        return tuple(_FORMS)


def _scale(image: Field, high: Field) -> int:
    sides = [*zip(image.fixed_shape[1:], high.fixed_shape[1:], strict=True)]
    scale = sides[0][1] // sides[0][0]
    if scale < 2 or any(large != scale * small for small, large in sides):
        raise TaskError(
            f"task=super_resolution cannot make images of {high.shape} from images of {image.shape}",
            "Both sides of the large image are the same whole number of times as long, 2 or more",
            "Use another task, or data whose target is the image enlarged.",
        )
    return scale
