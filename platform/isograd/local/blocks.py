"""Copies of a backbone's own blocks, from which auxiliary networks are built."""

import copy
import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from isograd.errors import BackboneError
from isograd.models.backbone import MAIN, Backbone, Feature, Unit
from isograd.models.layers import AsMap
from isograd.models.resnet_cifar import BasicBlock


def fresh(unit: Unit) -> nn.Module:
    """Returns a block of a unit's architecture with initial weights of its own, independent of the unit's.

    Convolutions are left for :func:`~isograd.models.resnet_cifar.draw_convolutions`; normalisations start at one and
    zero; linear layers as PyTorch draws them, or as vision transformers do where the block has a LayerNorm. Parameters
    that a block holds itself are drawn as transformers do, too (attention's projections, tables of positions); vectors
    among them, such as layer scales, which start as constants, keep the unit's values.

    Raises:
        BackboneError: The unit reads or writes other values beside the main one, which an auxiliary network has not.
    """
    if not is_plain(unit):
        raise BackboneError(
            f"unit '{unit.name}' reads {', '.join(unit.reads)} and writes {', '.join(unit.writes)}, so an auxiliary "
            "network cannot have a copy of it",
            "Copies of blocks stand in a row there, and hand on nothing but the main value",
            "Use a method without copies of blocks (method=dgl), or a model whose blocks have one input each.",
        )
    block = copy.deepcopy(unit.module)
    has_layer_norm = any(isinstance(part, nn.LayerNorm) for part in block.modules())
    for part in block.modules():
        reset = getattr(part, "reset_parameters", None)
        if callable(reset):
            reset()
        else:
            _draw_tables(part)
        if has_layer_norm and isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return block


def _draw_tables(part: nn.Module) -> None:
    for parameter in part.parameters(recurse=False):
        if parameter.squeeze().dim() > 1:
            nn.init.trunc_normal_(parameter, std=0.02)


def is_plain(unit: Unit) -> bool:
    """Whether a unit takes the main value alone, and returns it alone: what blocks in a row do."""
    return unit.reads == unit.writes == (MAIN,)


def copy_weights(block: nn.Module, unit: Unit) -> None:
    """Gives a block of a unit's architecture that unit's present weights and statistics."""
    block.load_state_dict(unit.module.state_dict())


def input_of(backbone: Backbone, unit: Unit) -> Feature:
    """Returns the first value that a unit is given, its main one."""
    return backbone.live(backbone.index(unit.name))[unit.reads[0]]


def repeatable(backbone: Backbone, unit: Unit) -> Unit | None:
    """Returns the first block from ``unit`` on that takes and returns one feature, of the shape of ``unit``'s output.

    Where there is none, that is ``unit`` itself, which :func:`fitted` adapts; None where ``unit`` is the stem.
    """
    for later in backbone.units[backbone.index(unit.name) :]:
        is_due = later.role == "block" and is_plain(later)
        if is_due and later.output == unit.output == input_of(backbone, later):
            return later
    return None if unit.role == "stem" else unit


def fitted(backbone: Backbone, unit: Unit, given: Feature) -> tuple[nn.Module, Feature]:
    """Returns a fresh block like a unit for another input, and what leaves it.

    A CIFAR ResNet's block is built for the input's width, at stride 2 where widths differ (AugLocal's rule). Any other
    is preceded, where it is needed, by a projection to the shape that the unit expects.

    Raises:
        BackboneError: The shape cannot be projected.
    """
    expected = input_of(backbone, unit)
    if given == expected:
        return fresh(unit), unit.output
    if isinstance(unit.module, BasicBlock):
        return _basic_block(unit, given)
    return nn.Sequential(Projection(given, expected), fresh(unit)), unit.output


def _basic_block(unit: Unit, given: Feature) -> tuple[nn.Module, Feature]:
    channels = unit.output.channels
    stride = 1 if channels == given.channels else 2
    height, width = (-(-side // stride) for side in given.size)
    return BasicBlock(given.channels, channels, stride), Feature((channels, height, width), "NCHW")


class Projection(nn.Module):
    """Average pool and 1x1 convolution with BatchNorm from one map to another's shape.

    Raises:
        BackboneError: ``wanted`` is no map: a pooled one has no class token to offer.
    """

    def __init__(self, given: Feature, wanted: Feature) -> None:
        super().__init__()
        if wanted.layout not in ("NCHW", "NHWC"):
            raise BackboneError(
                f"cannot project a feature of shape {given.shape} to one of shape {wanted.shape}, which is no map",
                "An auxiliary network was to leap over a change of shape, which is defined for maps only",
                "Use units whose input has the same shape.",
            )
        self.wanted = wanted
        self.project = nn.Sequential(
            AsMap(given),
            nn.AdaptiveAvgPool2d(wanted.size),
            nn.Conv2d(given.channels, wanted.channels, 1, bias=False),
            nn.BatchNorm2d(wanted.channels),
        )

    def forward(self, value: Tensor) -> Tensor:
        """Returns the projected map, in the wanted layout."""
        projected = self.project(value)
        return projected if self.wanted.layout == "NCHW" else projected.permute(0, 2, 3, 1)


def blocks_of(backbone: Backbone) -> Sequence[Unit]:
    """Returns the units that are blocks: neither stem nor neck nor head."""
    return backbone.blocks


def stage_number(backbone: Backbone, unit: Unit) -> int:
    """Returns which run of blocks with outputs of one shape a block belongs to, from 1 (a ResNet's stage)."""
    blocks = blocks_of(backbone)
    shapes = [block.output.shape for block in blocks[: blocks.index(unit) + 1]]
    return 1 + sum(before != after for before, after in itertools.pairwise(shapes))
