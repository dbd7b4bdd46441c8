"""Layers that read any feature: as a map, pooled, or as one token; none of them reads a causal sequence."""

from typing import Protocol, runtime_checkable

from torch import Tensor, nn
from torch.nn import functional as F

from isograd.models.backbone import Backbone, Feature

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)


class AsMap(nn.Module):
    """Lays any feature out as (B, C, H, W): tokens as their grid without their class token, NHWC transposed, vectors
    as one pixel.

    Raises:
        BackboneError: Tokens form no grid.
    """

    def __init__(self, feature: Feature) -> None:
        super().__init__()
        self.feature, self.size = feature, feature.size

    def forward(self, value: Tensor) -> Tensor:
        """Returns the map."""
        if self.feature.layout == "NHWC":
            return value.permute(0, 3, 1, 2)
        if self.feature.layout == "NLC":
            patches = value[:, self.feature.num_prefix_tokens :]  # (B, N, D)
            return patches.transpose(1, 2).unflatten(2, self.size)  # (B, D, H, W)
        return value[..., None, None] if self.feature.layout == "NC" else value


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
        feature.check_poolable()
        self.norm = nn.LayerNorm(feature.channels, eps=1e-6)
        self.has_class_token = feature.num_prefix_tokens > 0

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the class token, or the mean of the patches."""
        tokens = self.norm(tokens)
        return tokens[:, 0] if self.has_class_token else tokens.mean(dim=1)


class PatchTokens(nn.Module):
    """A map as tokens. Shapes: (B, C, H, W) -> (B, H W, C)."""

    def forward(self, value: Tensor) -> Tensor:
        """Returns the tokens, row by row."""
        return value.flatten(2).transpose(1, 2)


def is_normalised(backbone: Backbone) -> bool:
    """Whether a network has any normalisation, and so may have auxiliary networks with BatchNorm.

    One without, such as EDSR, keeps the contrast of its images, which BatchNorm would take out.
    """
    return any(isinstance(part, _NORMS) for unit in backbone.units for part in unit.module.modules())


def as_map(feature: Feature, head: nn.Module) -> nn.Module:
    """Returns ``head`` preceded by :class:`AsMap` where the feature is not a map with channels first already."""
    return head if feature.layout == "NCHW" else nn.Sequential(AsMap(feature), head)


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Returns a convolution without bias, BatchNorm and ReLU."""
    return [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]


@runtime_checkable
class Narrowable(Protocol):
    """A layer whose view of a sequence can be restricted: a causal attention."""

    def narrow(self, num_positions: int) -> None:
        """Lets each position see itself and the ``num_positions`` - 1 before it, no more."""
        ...
