"""Auxiliary networks that predict the task's target from a local module's activation.

All are built from a :class:`~isograd.models.backbone.Feature`, so any backbone can carry them: token features are laid
out as a map for the convolutional ones, channels-last maps are transposed.
"""

import math
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from isograd.models.backbone import Feature
from isograd.registry import Registry

Builder = Callable[[Feature, int], nn.Module]

AUXILIARY: Registry[Builder] = Registry("auxiliary network")


class AsMap(nn.Module):
    """Lays any feature out as (B, C, H, W): tokens as their grid without their class token, NHWC transposed."""

    def __init__(self, feature: Feature) -> None:
        super().__init__()
        self.feature = feature

    def forward(self, value: Tensor) -> Tensor:
        """Returns the map."""
        if self.feature.layout == "NHWC":
            return value.permute(0, 3, 1, 2)
        if self.feature.layout == "NLC":
            patches = value[:, self.feature.num_prefix_tokens :]  # (B, N, D)
            return patches.transpose(1, 2).unflatten(2, self.feature.size)  # (B, D, H, W)
        return value


class GlobalPool(nn.Module):
    """Global average pool. Shapes: (B, C, H, W) -> (B, C, 1, 1).

    The mean of one window as large as the map: its gradient keeps the map's memory order, unlike the adaptive pool's,
    and the layers before it run faster for that.
    """

    def forward(self, value: Tensor) -> Tensor:
        """Pools."""
        return F.avg_pool2d(value, value.shape[2:])


class TokenPool(nn.Module):
    """LayerNorm, then the class token, or the mean of all tokens where there is none. Shapes: (B, N, D) -> (B, D)."""

    def __init__(self, feature: Feature) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(feature.channels, eps=1e-6)
        self.has_class_token = feature.num_prefix_tokens > 0

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the class token, or the mean of the patches."""
        tokens = self.norm(tokens)
        return tokens[:, 0] if self.has_class_token else tokens.mean(dim=1)


def as_map(feature: Feature, head: nn.Module) -> nn.Module:
    """Returns ``head`` preceded by :class:`AsMap` where the feature is not a map with channels first already."""
    return head if feature.layout == "NCHW" else nn.Sequential(AsMap(feature), head)


def _pointwise(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU()]


def _hidden(in_width: int, out_width: int, bias: bool = True) -> list[nn.Module]:
    return [nn.Linear(in_width, out_width, bias=bias), nn.BatchNorm1d(out_width), nn.ReLU()]


def _quarter(feature: Feature) -> tuple[int, int]:
    return math.ceil(feature.size[0] / 4), math.ceil(feature.size[1] / 4)


def _pooled_mlp(
    feature: Feature, num_outputs: int, *, num_convolutions: int = 3, num_hidden: int = 3, bias: bool = True
) -> nn.Module:
    """Pool to a quarter, 1x1 convolutions, pool to 2x2, an MLP of constant width: DGL's heads but for "cnn"."""
    c, width = feature.channels, 4 * feature.channels
    convolutions = [layer for _ in range(num_convolutions) for layer in _pointwise(c, c)]
    hidden = [layer for _ in range(num_hidden) for layer in _hidden(width, width, bias)]
    return as_map(
        feature,
        nn.Sequential(
            nn.AdaptiveAvgPool2d(_quarter(feature)),
            *convolutions,
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            *hidden,
            nn.Linear(width, num_outputs),
        ),
    )


@AUXILIARY.register("mlp_sr")
def mlp_sr(feature: Feature, num_outputs: int) -> nn.Module:
    """DGL's default (Belilovsky et al. 2020): three 1x1 convolutions at a quarter of the size, then a 3-layer MLP."""
    return _pooled_mlp(feature, num_outputs)


@AUXILIARY.register("mlp")
def mlp(feature: Feature, num_outputs: int) -> nn.Module:
    """DGL's "mlp": :func:`mlp_sr` without its convolutions."""
    return _pooled_mlp(feature, num_outputs, num_convolutions=0)


@AUXILIARY.register("cnn")
def cnn(feature: Feature, num_outputs: int) -> nn.Module:
    """DGL's "cnn": two 3x3 convolutions at full resolution, pool to 2x2, BatchNorm, linear."""
    c = feature.channels
    convolutions = [
        layer for _ in range(2) for layer in (nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c), nn.ReLU())
    ]
    return as_map(
        feature,
        nn.Sequential(
            *convolutions,
            nn.AdaptiveAvgPool2d(2),
            nn.BatchNorm2d(c),
            nn.Flatten(),
            nn.Linear(4 * c, num_outputs),
        ),
    )


@AUXILIARY.register("auglocal")
def auglocal(feature: Feature, num_outputs: int) -> nn.Module:
    """DGL's head as AugLocal's release has it: :func:`mlp_sr` with two hidden layers, without their biases."""
    return _pooled_mlp(feature, num_outputs, num_hidden=2, bias=False)


@AUXILIARY.register("manpp")
def manpp(feature: Feature, num_outputs: int) -> nn.Module:
    """DGL's head as MAN++'s release has it: pool to 8x8, 1x1 convolutions of 128, pool to 1x1, MLP of width 512."""
    convolutions = [*_pointwise(feature.channels, 128), *_pointwise(128, 128), *_pointwise(128, 128)]
    hidden = [*_hidden(128, 512), *_hidden(512, 512), *_hidden(512, 512)]
    head = nn.Sequential(*convolutions, GlobalPool(), nn.Flatten(), *hidden, nn.Linear(512, num_outputs))
    return as_map(feature, nn.Sequential(nn.AdaptiveAvgPool2d(8), head))


@AUXILIARY.register("linear")
def linear(feature: Feature, num_outputs: int) -> nn.Module:
    """Global pool and a linear layer, MLAAN's; for tokens :func:`token`."""
    if feature.layout == "NLC":
        return token(feature, num_outputs)
    pool = nn.Sequential(GlobalPool(), nn.Flatten())
    return as_map(feature, nn.Sequential(*pool, _linear(feature, num_outputs)))


@AUXILIARY.register("token")
def token(feature: Feature, num_outputs: int) -> nn.Module:
    """The light head for transformers: LayerNorm, class token (or mean), linear. Maps are read as tokens."""
    if feature.layout in ("NCHW", "NHWC"):
        tokens = Feature((math.prod(feature.size), feature.channels), "NLC")
        return nn.Sequential(
            AsMap(feature), nn.Flatten(2), _Transpose(), TokenPool(tokens), _linear(tokens, num_outputs)
        )
    return nn.Sequential(TokenPool(feature), _linear(feature, num_outputs))


class _Transpose(nn.Module):
    def forward(self, value: Tensor) -> Tensor:
        return value.transpose(1, 2)


def _linear(feature: Feature, num_outputs: int) -> nn.Module:
    return nn.Linear(feature.channels, num_outputs)


@AUXILIARY.register("auto")
def auto(feature: Feature, num_outputs: int) -> nn.Module:
    """:func:`token` for token features, :func:`mlp_sr` for maps."""
    return token(feature, num_outputs) if feature.layout == "NLC" else mlp_sr(feature, num_outputs)
