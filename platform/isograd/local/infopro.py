"""The parts of InfoPro (Wang et al. 2021) that other methods build on: decoders, heads, losses."""

import re
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd.data.transforms import Normalize
from isograd.errors import ConfigError
from isograd.local.auxiliary import GlobalPool, as_map
from isograd.local.module import Objective, Outcome
from isograd.local.resize import ResizedConv2d
from isograd.models.backbone import Feature


def image_decoder(feature: Feature, image_shape: tuple[int, int, int], widen: float = 1) -> nn.Module:
    """Reproduces the image from an activation: resize, conv3x3 to 12, BatchNorm, ReLU, conv3x3, sigmoid.

    Shapes: feature -> (B, C, H, W) in (0, 1), C, H, W the image's.
    """
    (channels, height, width), inner = image_shape, int(12 * widen)
    decoder = nn.Sequential(
        ResizedConv2d(feature.channels, inner, (height, width)),
        nn.BatchNorm2d(inner),
        nn.ReLU(),
        nn.Conv2d(inner, channels, 3, padding=1),
        nn.Sigmoid(),
    )
    return as_map(feature, decoder)


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Returns a convolution without bias, BatchNorm and ReLU."""
    return [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]


def head(
    layout: str, feature: Feature, num_outputs: int, *, last_channels: int, feature_dim: int = 128, widen: float = 1
) -> nn.Module:
    """Builds the head "XcYf": X 3x3 convolutions, global pool, Y fully connected layers.

    Args:
        layout: ``0c1f`` to ``2c3f``.
        feature: Input of the head.
        num_outputs: Width of the output.
        last_channels: Channels of the backbone's last map; below it the first convolution doubles them at stride 2,
            at it (64 of a CIFAR ResNet) it keeps both.
        feature_dim: Width of the hidden fully connected layers, before ``widen``.
        widen: Factor on all widths inside, which are rounded down.

    Raises:
        ConfigError: ``layout`` is not of this form.
    """
    match = re.fullmatch(r"([012])c([123])f", layout)
    if match is None:
        raise ConfigError(
            f"method.head='{layout}' names no InfoPro head",
            "A head is X convolutions and Y fully connected layers, with X of 0, 1, 2 and Y of 1, 2, 3",
            "Use method.head=1c2f, the paper's default.",
        )
    num_convolutions, num_linear = int(match[1]), int(match[2])
    layers, channels = _head_convolutions(feature.channels, last_channels, num_convolutions, widen)
    layers += [GlobalPool(), nn.Flatten()]
    for _ in range(num_linear - 1):
        layers += [nn.Linear(channels, int(feature_dim * widen)), nn.ReLU()]
        channels = int(feature_dim * widen)
    return as_map(feature, nn.Sequential(*layers, nn.Linear(channels, num_outputs)))


def _head_convolutions(channels: int, last_channels: int, count: int, widen: float) -> tuple[list[nn.Module], int]:
    grows = channels < last_channels
    inner = int((2 * channels if grows else channels) * widen)
    layers: list[nn.Module] = []
    for position in range(count):
        stride = 2 if grows and position == 0 else 1
        layers += conv(channels, inner, 3, stride)
        channels = inner
    return layers, channels


class Reconstruction(nn.Module):
    """Binary cross-entropy between a decoded activation and the image."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, feature: Tensor, image: Tensor) -> Tensor:
        """Returns the loss, mean over all pixels. Shapes: feature (B, ...), image (B, C, H, W) in [0, 1] -> ()."""
        return pixel_loss(self.decoder(feature), image)


def pixel_loss(decoded: Tensor, image: Tensor) -> Tensor:
    """Binary cross-entropy, mean over all pixels, outside autocast: torch refuses it in half precision as unsafe."""
    with full_precision(decoded):
        decoded = decoded.to(image.dtype)
        if decoded.device.type != "cpu":
            return F.binary_cross_entropy(decoded, image)
        return cast(Tensor, _PixelLoss.apply(decoded, image))


class _PixelLoss(torch.autograd.Function):
    """torch's binary cross-entropy, same clamps, with vectorised logarithms: a fifth of its time on a CPU."""

    @staticmethod
    def forward(ctx: Any, decoded: Tensor, image: Tensor) -> Tensor:
        ctx.save_for_backward(decoded, image)
        of_light = torch.log(decoded).clamp_(min=-100).mul_(image)
        of_dark = torch.log1p(-decoded).clamp_(min=-100).mul_(1 - image)
        return of_light.add_(of_dark).mean().neg()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        decoded, image = ctx.saved_tensors
        return torch.ops.aten.binary_cross_entropy_backward(gradients[0], decoded, image), None


class ContrastObjective(Objective):
    """The supervised contrastive loss of a head's embedding. It predicts nothing."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, feature: Tensor, target: Tensor, pixels: Tensor | None) -> Outcome:
        """Returns the loss. Shapes: as :class:`~isograd.local.module.Objective`."""
        embedding = self.head(feature)
        with full_precision(embedding):
            wide = embedding if embedding.dtype == torch.float64 else embedding.float()
            return Outcome(supervised_contrast(wide, target), None)

    def predict(self, feature: Tensor) -> None:
        """Predicts nothing."""


class InfoProObjective(Objective):
    """lambda1 times the reconstruction loss plus lambda2 times the loss of the target.

    Args:
        reconstruction: Maps an activation and the image to a loss.
        target: The task's loss, or the contrastive one.
    """

    def __init__(
        self, normalize: Normalize, reconstruction: nn.Module, target: Objective, lambda1: float, lambda2: float
    ) -> None:
        super().__init__()
        self.lambda1, self.lambda2 = lambda1, lambda2
        self.normalize, self.reconstruction, self.target = normalize, reconstruction, target

    def forward(self, feature: Tensor, target: Tensor, pixels: Tensor | None) -> Outcome:
        """Returns the weighted sum of both losses. Shapes: as :class:`~isograd.local.module.Objective`."""
        if pixels is None:
            raise AssertionError("InfoPro's exchange carries the image")
        reconstruction = self.reconstruction(feature, self.normalize.restore(pixels))
        outcome = self.target(feature, target, pixels)
        return Outcome(self.lambda1 * reconstruction + self.lambda2 * outcome.loss, outcome.prediction)

    def predict(self, feature: Tensor) -> Tensor | None:
        """Returns the head's logits, (B, Y); None for an embedding."""
        return self.target.predict(feature)


def full_precision(value: Tensor) -> AbstractContextManager[None]:
    """Returns a context without autocast."""
    return torch.autocast(value.device.type, enabled=False)  # pyright: ignore[reportReturnType]


def supervised_contrast(embedding: Tensor, target: Tensor, temperature: float = 0.07) -> Tensor:
    """Supervised contrastive loss with one view (Khosla et al. 2020, L_out), as InfoPro's release computes it.

    Anchors without another sample of their class contribute zero, yet count in the mean.

    Shapes: embedding (B, D), not normalised; target (B,) -> ().
    """
    unit = F.normalize(embedding, dim=1)
    similarity = unit @ unit.T / temperature  # (B, B)
    similarity = similarity - similarity.max(dim=1, keepdim=True).values.detach()
    others = ~torch.eye(target.shape[0], dtype=torch.bool, device=target.device)
    positives = (target[:, None] == target[None, :]) & others
    log_total = (similarity.exp() * others).sum(dim=1, keepdim=True).log()
    log_probability = ((similarity - log_total) * positives).sum(dim=1)
    return -(log_probability / positives.sum(dim=1).clamp(min=1)).mean()
