"""GLCAN (Zhu et al., "GLCAN: Global-Local Collaborative Auxiliary Network for Local Learning", arXiv 2406.00446).

The auxiliary network of module k joins what the module sees in detail with what the rest of the network would make of
it:

    z = Fuse(L(h_k), G(h_k)),  loss: the task's own, of a head of the task's own form on z

L, the local branch, keeps the resolution of h_k; G, the global branch, is a thumbnail of the rest of the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd.errors import BackboneError
from isograd.local.base import check_unread, form_name
from isograd.local.blocks import Projection, blocks_of, fitted, repeatable
from isograd.local.leaps import chosen
from isograd.local.method import METHODS, Method
from isograd.local.module import Behind, Objective, TaskObjective
from isograd.models.backbone import MAIN, Feature, Unit
from isograd.models.layers import AsMap, Narrowable, conv, is_normalised
from isograd.options import choice, number
from isograd.partition.partition import Partition
from isograd.tasks.task import Form


class Gated(nn.Module):
    """g global + (1 - g) local, g learnt for each channel from 1/2.

    Args:
        shape: Of the gate: (C, 1, 1) for maps, (D,) for sequences and vectors.
    """

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.full(shape, 0.5))

    def forward(self, local: Tensor, broad: Tensor) -> Tensor:
        """Shapes: (B, C, H, W), (B, T, D) or (B, D) twice -> the same."""
        return self.gate * broad + (1 - self.gate) * local


class Concatenated(nn.Module):
    """Both side by side, through a layer that mixes channels.

    Args:
        mix: From twice the channels.
        axis: Of the channels.
    """

    def __init__(self, mix: nn.Module, axis: int) -> None:
        super().__init__()
        self.mix, self.axis = mix, axis

    def forward(self, local: Tensor, broad: Tensor) -> Tensor:
        """Shapes: (B, C, H, W), (B, T, D) or (B, D) twice -> the same."""
        return self.mix(torch.cat([local, broad], dim=self.axis))


def mix_maps(channels: int, *, has_norm: bool) -> nn.Sequential:
    """Returns a 1x1 convolution from twice the channels; with BatchNorm and ReLU where the network has them."""
    if not has_norm:
        return nn.Sequential(nn.Conv2d(2 * channels, channels, 1))
    return nn.Sequential(*conv(2 * channels, channels, 1))


class HalfSize(nn.Module):
    """A network on the map at half its size, brought back to its own. Shapes: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, value: Tensor) -> Tensor:
        """Pools by two, runs the network and interpolates."""
        half = self.network(F.avg_pool2d(value, 2, ceil_mode=True))
        return F.interpolate(half, size=value.shape[-2:], mode="bilinear", align_corners=False)


def dilate(blocks: nn.Sequential) -> nn.Sequential:
    """Spreads the 3x3 convolutions of blocks in a row: by 2 in the first one, by 4 in the second, and so on."""
    for place, block in enumerate(blocks, start=1):
        for part in block.modules():
            if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3) and part.stride == (1, 1):
                part.dilation = part.padding = (2**place, 2**place)
    return blocks


class Collaboration(nn.Module):
    """Local and global branch, brought to one shape and fused.

    Args:
        local: At the resolution of h_k; ends with a projection to the global branch's shape.
        broad: The global branch, as a map.
        fusion: Of two maps of that shape.
    """

    def __init__(self, local: nn.Module, broad: nn.Module, fusion: nn.Module) -> None:
        super().__init__()
        self.local, self.broad, self.fusion = local, broad, fusion

    def forward(self, value: Tensor) -> Tensor:
        """Returns z. Shapes: h_k -> (B, C, H, W)."""
        return self.fusion(self.local(value), self.broad(value))


@METHODS.register("glcan")
class GLCAN(Method):
    """The task's loss behind a local branch, a global branch, and their fusion.

    Note:
        Neither code nor the paper's sections were to be had, only its abstract and reviews of its successor; this is
        our reading of them. The local branch is ``local_depth`` fresh blocks like the module's own last one, at its
        resolution. The global branch has a fresh block for each later change of shape and one like the network's last
        block, ``global_depth`` in all where the changes leave room; where the backbone keeps one shape (a vision
        transformer, EDSR), they are evenly spaced later blocks. If that shape is a map, they see it at half its size
        (``view=half``), or with spread convolutions (``dilated``). The local branch is pooled and projected to the
        global one's shape, where that is another. Beside a network without normalisation there is no BatchNorm here,
        either. ``branches`` leaves out one of the two, the ablation that the name asks for. The head is the task's
        own: for classification one of the auxiliary networks, by default a global pool and a linear layer.

        On a sequence of tokens nothing is pooled or normalised over positions, which would tell of later tokens: the
        local branch sees the last ``attention_window`` positions, the global one all before, and a linear layer (no
        BatchNorm) or a gate fuses them. So it does vectors, which have no positions.
    """

    @dataclass
    class Config:
        """Attributes:
        branches: ``both``, ``local`` or ``global``.
        local_depth: Blocks of the local branch.
        global_depth: Blocks of the global branch, but for those that changes of shape need.
        view: How the global branch sees the map of a backbone that keeps one shape of maps: at ``half`` its size,
            ``dilated``, or ``full``, as it sees others.
        fusion: ``concat`` (1x1 convolution; on a sequence a linear layer) or ``gated``.
        attention_window: Positions that the local branch sees of a sequence, its own included.
        auxiliary: The head behind the fusion.
        """

        name: str = "glcan"
        branches: str = choice("both", "local", "global")
        local_depth: int = number(1, least=1)
        global_depth: int = number(2, least=1)
        view: str = choice("half", "dilated", "full")
        fusion: str = choice("concat", "gated")
        attention_window: int = number(16, least=1)
        auxiliary: str = "linear"

    def objective(self, partition: Partition, index: int) -> Objective:
        """Builds the branches that are switched on, their fusion, and the head."""
        network, feature = self._network(partition, index)
        form = Form(form_name(self.config, "auxiliary", self.task))
        head = self.task.head({**partition.live(index), MAIN: feature}, form)
        return TaskObjective(self.task, replace(head, module=Behind(network, head.module)))

    def _network(self, partition: Partition, index: int) -> tuple[nn.Module, Feature]:
        units = partition.units(index)
        later = partition.blocks_after(units[-1])
        if self.config.branches == "local" or not later:
            return self._local(partition, units[-1])
        broad, feature = self._global(partition, units[-1], later)
        if self.config.branches == "global":
            return broad, feature
        local, local_feature = self._local(partition, units[-1])
        has_norm = is_normalised(partition.backbone)
        return self._joined(local, local_feature, broad, feature, has_norm)

    def _global(self, partition: Partition, end: Unit, later: Sequence[Unit]) -> tuple[nn.Module, Feature]:
        """Builds fresh blocks like some of the later ones, which see a map that keeps its shape from afar."""
        broad, feature = _chain(partition, chosen(end, later, self.config.global_depth), end.output)
        if len({block.output for block in blocks_of(partition.backbone)}) > 1 or feature.layout != "NCHW":
            check_unread(self.config, ("view",), "a backbone that does not keep one shape of maps")
            return broad, feature
        if self.config.view == "full":
            return broad, feature
        return (dilate(broad) if self.config.view == "dilated" else HalfSize(broad)), feature

    def _local(self, partition: Partition, end: Unit) -> tuple[nn.Module, Feature]:
        """Builds fresh blocks at the resolution of ``end``: like it, or like a later block where it is the stem."""
        like = repeatable(partition.backbone, end)
        network, feature = _chain(partition, [like] * self.config.local_depth if like else [], end.output)
        if not feature.is_causal:
            check_unread(self.config, ("attention_window",), "maps, whose local branch keeps the resolution")
        for part in network.modules() if feature.is_causal else ():
            if isinstance(part, Narrowable):
                part.narrow(self.config.attention_window)
        return network, feature

    def _joined(
        self, local: nn.Module, local_feature: Feature, broad: nn.Module, feature: Feature, has_norm: bool
    ) -> tuple[nn.Module, Feature]:
        channels, is_gated = feature.channels, self.config.fusion == "gated"
        if feature.is_causal or feature.layout == "NC":  # positions may not be pooled, and vectors have none
            if local_feature != feature:
                raise BackboneError(
                    f"method=glcan cannot fuse a local branch of shape {local_feature.shape} and a global one of shape "
                    f"{feature.shape}",
                    "Only maps are projected to each other's shape",
                    "Use method.branches=local or method.branches=global, or cuts between blocks of one shape.",
                )
            fusion = Gated(channels) if is_gated else Concatenated(nn.Linear(2 * channels, channels), -1)
            return Collaboration(local, broad, fusion), feature
        as_map = Feature((channels, *feature.size), "NCHW")
        fusion = Gated(channels, 1, 1) if is_gated else Concatenated(mix_maps(channels, has_norm=has_norm), 1)
        needs_projection = has_norm or local_feature != as_map
        projected = nn.Sequential(local, Projection(local_feature, as_map)) if needs_projection else local
        return Collaboration(projected, nn.Sequential(broad, AsMap(feature)), fusion), as_map


def _chain(partition: Partition, units: list[Unit], feature: Feature) -> tuple[nn.Sequential, Feature]:
    """Returns fresh blocks like ``units`` in a row, and what leaves the last one."""
    blocks: list[nn.Module] = []
    for unit in units:
        block, feature = fitted(partition.backbone, unit, feature)
        blocks.append(block)
    return nn.Sequential(*blocks), feature
