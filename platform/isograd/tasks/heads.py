"""Auxiliary networks that predict a vector from a feature: those of the papers, by the names of their forms.

All are built from a :class:`~isograd.models.backbone.Feature`, so any backbone can carry them: token features are laid
out as a map for the convolutional ones, channels-last maps are transposed.
"""

import math
from collections.abc import Callable
from functools import partial

from torch import nn

from isograd.models.backbone import Feature
from isograd.models.layers import AsMap, GlobalPool, PatchTokens, TokenPool, as_map, conv
from isograd.registry import Registry

# From a feature, the width of the vector and the options of the form, to the network: (B, ...) -> (B, num_outputs).
Builder = Callable[..., nn.Module]
VECTOR_HEADS: Registry[Builder] = Registry("auxiliary network")


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


@VECTOR_HEADS.register("mlp_sr")
def mlp_sr(feature: Feature, num_outputs: int) -> nn.Module:
    """DGL's default (Belilovsky et al. 2020): three 1x1 convolutions at a quarter of the size, then a 3-layer MLP."""
    return _pooled_mlp(feature, num_outputs)


@VECTOR_HEADS.register("mlp")
def mlp(feature: Feature, num_outputs: int) -> nn.Module:
    """DGL's "mlp": :func:`mlp_sr` without its convolutions."""
    return _pooled_mlp(feature, num_outputs, num_convolutions=0)


@VECTOR_HEADS.register("cnn")
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


@VECTOR_HEADS.register("auglocal")
def auglocal(feature: Feature, num_outputs: int) -> nn.Module:
    """DGL's head as AugLocal's release has it: :func:`mlp_sr` with two hidden layers, without their biases."""
    return _pooled_mlp(feature, num_outputs, num_hidden=2, bias=False)


@VECTOR_HEADS.register("manpp")
def manpp(feature: Feature, num_outputs: int) -> nn.Module:
    """DGL's head as MAN++'s release has it: pool to 8x8, 1x1 convolutions of 128, pool to 1x1, MLP of width 512."""
    convolutions = [*_pointwise(feature.channels, 128), *_pointwise(128, 128), *_pointwise(128, 128)]
    hidden = [*_hidden(128, 512), *_hidden(512, 512), *_hidden(512, 512)]
    head = nn.Sequential(*convolutions, GlobalPool(), nn.Flatten(), *hidden, nn.Linear(512, num_outputs))
    return as_map(feature, nn.Sequential(nn.AdaptiveAvgPool2d(8), head))


@VECTOR_HEADS.register("linear")
def linear(feature: Feature, num_outputs: int) -> nn.Module:
    """Global pool and a linear layer, MLAAN's; for tokens :func:`token`."""
    if feature.layout == "NLC":
        return token(feature, num_outputs)
    pool = nn.Sequential(GlobalPool(), nn.Flatten())
    return as_map(feature, nn.Sequential(*pool, _linear(feature, num_outputs)))


@VECTOR_HEADS.register("token")
def token(feature: Feature, num_outputs: int) -> nn.Module:
    """The light head for transformers: LayerNorm, class token (or mean), linear. Maps are read as tokens."""
    if feature.layout in ("NCHW", "NHWC"):
        tokens = Feature((math.prod(feature.size), feature.channels), "NLC")
        return nn.Sequential(AsMap(feature), PatchTokens(), TokenPool(tokens), _linear(tokens, num_outputs))
    return nn.Sequential(TokenPool(feature), _linear(feature, num_outputs))


def _linear(feature: Feature, num_outputs: int) -> nn.Module:
    return nn.Linear(feature.channels, num_outputs)


@VECTOR_HEADS.register("auto")
def auto(feature: Feature, num_outputs: int) -> nn.Module:
    """:func:`token` for token features, :func:`mlp_sr` for maps."""
    return token(feature, num_outputs) if feature.layout == "NLC" else mlp_sr(feature, num_outputs)


def infopro(
    feature: Feature,
    num_outputs: int,
    *,
    layout: tuple[int, int],
    last_channels: int,
    feature_dim: int = 128,
    widen: float = 1,
) -> nn.Module:
    """InfoPro's head "XcYf" (Wang et al. 2021): X 3x3 convolutions, global pool, Y fully connected layers.

    Args:
        feature: Input of the head.
        num_outputs: Width of the output.
        layout: X and Y.
        last_channels: Channels of the backbone's last map; below it the first convolution doubles them at stride 2,
            at it (64 of a CIFAR ResNet) it keeps both.
        feature_dim: Width of the hidden fully connected layers, before ``widen``.
        widen: Factor on all widths inside, which are rounded down.
    """
    num_convolutions, num_linear = layout
    layers, channels = _head_convolutions(feature.channels, last_channels, num_convolutions, widen)
    layers += [GlobalPool(), nn.Flatten()]
    for _ in range(num_linear - 1):
        layers += [nn.Linear(channels, int(feature_dim * widen)), nn.ReLU()]
        channels = int(feature_dim * widen)
    return as_map(feature, nn.Sequential(*layers, nn.Linear(channels, num_outputs)))


for _x in range(3):
    for _y in range(1, 4):
        VECTOR_HEADS.add(f"{_x}c{_y}f", partial(infopro, layout=(_x, _y)))


def _head_convolutions(channels: int, last_channels: int, count: int, widen: float) -> tuple[list[nn.Module], int]:
    grows = channels < last_channels
    inner = int((2 * channels if grows else channels) * widen)
    layers: list[nn.Module] = []
    for position in range(count):
        stride = 2 if grows and position == 0 else 1
        layers += conv(channels, inner, 3, stride)
        channels = inner
    return layers, channels


@VECTOR_HEADS.register("imagenet")
def imagenet(feature: Feature, num_outputs: int) -> nn.Module:
    """InfoPro's on ImageNet: 1x1 to 128 or 256, 3x3 stride 2 to 256 and 512, 1x1 to 2048, global pool, linear."""
    first = 128 if feature.channels <= 512 else 256
    layers = [*conv(feature.channels, first, 1), *conv(first, 256, 3, 2), *conv(256, 512, 3, 2), *conv(512, 2048, 1)]
    return as_map(feature, nn.Sequential(*layers, GlobalPool(), nn.Flatten(), nn.Linear(2048, num_outputs)))


@VECTOR_HEADS.register("pooled")
def pooled(feature: Feature, num_outputs: int, *, norm: bool = False) -> nn.Sequential:
    """AugLocal's classifier: global pool, BatchNorm where asked for, linear; for tokens as :func:`token`."""
    classifier = _linear(feature, num_outputs)
    if feature.layout == "NLC":
        return nn.Sequential(TokenPool(feature), classifier)
    first = [] if feature.layout == "NCHW" else [AsMap(feature)]
    between = [nn.BatchNorm1d(feature.channels)] if norm else []
    return nn.Sequential(*first, GlobalPool(), nn.Flatten(), *between, classifier)
