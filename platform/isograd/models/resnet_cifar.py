"""ResNets for small images, as InfoPro, AugLocal, MAN and HPFF train them (He et al. 2016, section 4.2, option B).

Three stages of N basic blocks with widths 16, 32, 64; depth = 6 N + 2. Shortcuts change shape by a strided 1x1
convolution with BatchNorm. Parameters with 3 channels and 10 classes: 466,906 (depth 32), 1,730,714 (depth 110).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from isograd.data.field import Fields
from isograd.errors import BackboneError
from isograd.models.assembly import Link, assemble, draw_units
from isograd.models.backbone import MODELS, Backbone, ModelEntry, classifier
from isograd.options import number


@dataclass
class ResNetCifarConfig:
    """Attributes:
    name: Of the preset.
    depth: 6 N + 2 layers, N blocks a stage.
    width: Channels of the first stage; the others have two and four times as many.
    drop_rate: Dropout between the two convolutions of a block.
    stem_stride: Of the first convolution; 2 makes all maps half as high and wide, for quick experiments.
    """

    name: str = "resnet32"
    depth: int = number(32, 1)
    width: int = number(16, 1)
    drop_rate: float = number(0.0, 0, 1)
    stem_stride: int = number(1, 1)


def draw_convolutions(module: nn.Module) -> None:
    """Draws every convolution weight from N(0, 2 / (k_h k_w C_out)); other parameters keep PyTorch's defaults."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            fan_out = part.kernel_size[0] * part.kernel_size[1] * part.out_channels
            nn.init.normal_(part.weight, 0.0, math.sqrt(2.0 / fan_out))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    Shapes: (B, C_in, H, W) -> (B, C_out, H / stride, W / stride).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.drop = nn.Dropout(drop_rate) if drop_rate else nn.Identity()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, value: Tensor) -> Tensor:
        """Returns the block's output."""
        branch = F.relu(self.bn1(self.conv1(value)))
        branch = self.bn2(self.conv2(self.drop(branch)))
        return F.relu(branch + self.downsample(value))


def _stem(in_channels: int, width: int, stride: int) -> nn.Module:
    stem = nn.Sequential()
    stem.add_module("conv1", nn.Conv2d(in_channels, width, 3, stride, 1, bias=False))
    stem.add_module("bn1", nn.BatchNorm2d(width))
    stem.add_module("relu", nn.ReLU())
    return stem


def _head(width: int, num_classes: int) -> nn.Module:
    head = nn.Sequential()
    head.add_module("pool", nn.AdaptiveAvgPool2d(1))
    head.add_module("flatten", nn.Flatten())
    head.add_module("fc", nn.Linear(width, num_classes))
    return head


def build(config: ResNetCifarConfig, *, inputs: Fields, outputs: Fields, seed: int) -> Backbone:
    """Builds units ``stem``, ``layer1.0`` ... ``layer3.{N-1}``, ``head``; each drawn from its own named stream.

    Raises:
        BackboneError: The depth is not 6 N + 2, or this is no classification of images.
    """
    name = f"resnet{config.depth}"
    wanted = classifier(name, inputs, outputs)
    num_blocks, rest = divmod(config.depth - 2, 6)
    if rest or num_blocks < 1:
        raise BackboneError(
            f"a CIFAR ResNet cannot have depth {config.depth}",
            "Three stages of N blocks with two convolutions each, a stem and a classifier make 6 N + 2 layers",
            f"Use model.depth={6 * max(num_blocks, 1) + 2}.",
        )
    widths = [config.width, 2 * config.width, 4 * config.width]
    makers: dict[str, Callable[[], nn.Module]] = {
        "stem": lambda: _stem(wanted.input_shape[0], widths[0], config.stem_stride)
    }
    in_channels = widths[0]
    for stage, width in enumerate(widths, start=1):
        for block in range(num_blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            makers[f"layer{stage}.{block}"] = partial(BasicBlock, in_channels, width, stride, config.drop_rate)
            in_channels = width
    makers["head"] = lambda: _head(widths[-1], wanted.num_classes)
    links = [Link(unit, module) for unit, module in draw_units(makers, seed, draw_convolutions).items()]
    return assemble(name, links, inputs=inputs, outputs=outputs)


for _depth in (20, 32, 44, 56, 110):
    MODELS.add(f"resnet{_depth}", ModelEntry(ResNetCifarConfig(f"resnet{_depth}", _depth), build))
