"""EDSR, enhanced deep residual networks (Lim, Son, Kim, Nah, Lee, "Enhanced Deep Residual Networks for Single Image
Super-Resolution", CVPR workshops 2017).

Residual blocks without normalisation on the small image's grid, a skip over all of them, and an upsampler at the end:

    skip = head(image);  x = block.n(... block.1(skip));  high = last(upsample(body_end(x) + skip))

So two values are alive at every cut, ``x`` and ``skip``, and images of any size pass. Weights at x2, x3, x4: 1,369,859,
1,554,499 and 1,517,571 (baseline).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from isograd.data.field import Field, Fields
from isograd.errors import BackboneError
from isograd.models.assembly import draw_units
from isograd.models.backbone import MAIN, MODELS, Backbone, Feature, ModelEntry, Unit
from isograd.options import number

SKIP = "skip"
_STEPS = {2: (2,), 3: (3,), 4: (2, 2)}  # scale -> factors of the upsampler's steps


@dataclass
class EDSRConfig:
    """Attributes:
    name: Of the preset.
    depth: Residual blocks.
    width: Channels, F.
    residual_scale: Factor on each block's branch; 0.1 keeps wide networks stable.
    """

    name: str = "edsr_baseline"
    depth: int = number(16, least=1)
    width: int = number(64, least=1)
    residual_scale: float = number(1.0, least=0)


class Entrance(nn.Module):
    """The first convolution. Shapes: (B, 3, H, W) -> twice (B, F, H, W)."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3, padding=1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the map for the blocks, and the one that skips them, in memory of its own."""
        value = self.conv(image)
        return value, value.clone()


class ResidualBlock(nn.Module):
    """x + r conv(ReLU(conv(x))). Shapes: (B, F, H, W) -> the same."""

    def __init__(self, width: int, residual_scale: float = 1.0) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )
        self.residual_scale = residual_scale

    def forward(self, value: Tensor) -> Tensor:
        """Returns the block's output."""
        return torch.add(value, self.body(value), alpha=self.residual_scale)


class Exit(nn.Module):
    """The last convolution of the body, the global skip, and the upsampler.

    Shapes: two of (B, F, H, W) -> (B, 3, r H, r W).
    """

    def __init__(self, width: int, out_channels: int, scale: int) -> None:
        super().__init__()
        self.body_end = nn.Conv2d(width, width, 3, padding=1)
        steps = [
            layer
            for factor in _STEPS[scale]
            for layer in (nn.Conv2d(width, factor**2 * width, 3, padding=1), nn.PixelShuffle(factor))
        ]
        self.upsample = nn.Sequential(*steps)
        self.last = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, value: Tensor, skip: Tensor) -> Tensor:
        """Returns the large image."""
        return self.last(self.upsample(self.body_end(value) + skip))


def build(config: EDSRConfig, *, inputs: Fields, outputs: Fields, seed: int) -> Backbone:
    """Builds units ``head``, ``block.0`` ... ``block.{n-1}``, ``tail``; each drawn from its own named stream.

    Weights are drawn as PyTorch does by default, and as the release leaves them.

    Raises:
        BackboneError: Data and task are not one image in and one out that is 2, 3 or 4 times as large.

    Note:
        The release subtracts the mean colour first and adds it last. Here the data does the one and the task the other:
        the network returns images less their mean, as it is given them.
    """
    name, image = _only_image(config.name, inputs, "the data has")
    high_name, high = _only_image(config.name, outputs, "the task reads")
    scale = _scale(config.name, image, high)
    small = Feature((config.width, *image.fixed_shape[1:]), "NCHW")
    makers: dict[str, Callable[[], nn.Module]] = {
        "head": lambda: Entrance(image.fixed_shape[0], config.width),
        **{f"block.{n}": partial(ResidualBlock, config.width, config.residual_scale) for n in range(config.depth)},
        "tail": lambda: Exit(config.width, high.fixed_shape[0], scale),
    }
    units = [Unit(unit, module, {MAIN: small}) for unit, module in draw_units(makers, seed).items()]
    units[0] = replace(units[0], outputs={MAIN: small, SKIP: small}, reads=(name,), role="stem")
    large = {high_name: Feature(high.fixed_shape, "NCHW")}
    units[-1] = replace(units[-1], outputs=large, reads=(MAIN, SKIP), role="head")
    return Backbone(config.name, tuple(units), {name: Feature(image.fixed_shape, "NCHW")})


def _only_image(model: str, fields: Fields, whose: str) -> tuple[str, Field]:
    images = [(name, field) for name, field in fields.items() if field.kind == "image" and field.is_fixed]
    if len(fields) == len(images) == 1:
        return images[0]
    described = ", ".join(f"'{name}' ({field.kind})" for name, field in fields.items())
    raise BackboneError(
        f"{model} enlarges images, and {whose} {described or 'nothing'}",
        "It takes one image of known size and returns one image",
        "Use data=camvid_set5 task=super_resolution, or a model that is made for this data and task.",
    )


def _scale(model: str, image: Field, high: Field) -> int:
    for scale in _STEPS:
        if high.fixed_shape[1:] == tuple(scale * side for side in image.fixed_shape[1:]):
            return scale
    raise BackboneError(
        f"{model} cannot make images of shape {high.shape} from images of shape {image.shape}",
        f"Its upsampler enlarges both sides {', '.join(map(str, _STEPS))} times",
        "Use data.scale=2, for example.",
    )


for _name, _depth, _width, _residual_scale in (
    ("edsr_small", 8, 32, 1.0),
    ("edsr_baseline", 16, 64, 1.0),
    ("edsr_large", 32, 256, 0.1),
):
    MODELS.add(_name, ModelEntry(EDSRConfig(_name, _depth, _width, _residual_scale), build))
