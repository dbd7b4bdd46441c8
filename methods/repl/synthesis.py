"""How the weights of a replaced block are made from its neighbours' (RepL)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class ScaleConfig:
    """Attributes:
    a: First value of the scales of the previous block's tensors.
    b: Of the following block's.
    learn: Whether they are learnt.
    per_tensor: Whether each tensor of a block has scales of its own.
    """

    a: float = 0.5
    b: float = 0.5
    learn: bool = True
    per_tensor: bool = False


class Scales(nn.Module):
    """The learnable numbers a and b.

    They carry ``no_weight_decay``: decay of these two would shrink a whole block, whose weights are decayed already.

    Args:
        config: Where they start, and whether they learn.
        shape: Of each; () is a single pair for all tensors.
    """

    def __init__(self, config: ScaleConfig, *shape: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.full(shape, float(config.a)), requires_grad=config.learn)
        self.b = nn.Parameter(torch.full(shape, float(config.b)), requires_grad=config.learn)
        self._mark()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._mark()  # copying a parameter forgets its attributes

    def _mark(self) -> None:
        for scale in (self.a, self.b):
            scale.no_weight_decay = True  # pyright: ignore[reportAttributeAccessIssue]


class Synthesis(nn.Module):
    """Makes tensors from those of the previous and of the following block.

    Attributes:
        targets: Names of what it makes.
    """

    targets: tuple[str, ...]

    def forward(self, previous: Tensors, following: Tensors) -> dict[str, Tensor]:
        """Returns the tensors by name, given all of the neighbours' by theirs."""
        raise NotImplementedError


class Blend(Synthesis):
    """W_p = a W_p,previous + b W_p,following for tensors p of equal shape (version 1 of the paper).

    Args:
        names: The tensors; they are called the same in all three blocks.
        config: Of the scales: a pair for all, or one for each.
    """

    def __init__(self, names: Sequence[str], config: ScaleConfig) -> None:
        super().__init__()
        self.targets = tuple(names)
        self.scales = Scales(config, *([len(names)] if config.per_tensor else []))

    def forward(self, previous: Tensors, following: Tensors) -> dict[str, Tensor]:
        """Returns the blended tensors."""
        a, b = (scale.expand(len(self.targets)).unbind() for scale in (self.scales.a, self.scales.b))
        return {
            name: a[at] * previous[name] + b[at] * following[name]  # one tensor's shape
            for at, name in enumerate(self.targets)
        }


class Sharing(Synthesis):
    """W_p = W_p,previous: two blocks with the same weights, the control without anything to learn."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.targets = tuple(names)

    def forward(self, previous: Tensors, following: Tensors) -> dict[str, Tensor]:
        """Returns the previous block's tensors themselves."""
        return {name: previous[name] for name in self.targets}


class Union(Synthesis):
    """Several syntheses side by side."""

    def __init__(self, parts: Sequence[Synthesis]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.targets = tuple(name for part in parts for name in part.targets)

    def forward(self, previous: Tensors, following: Tensors) -> dict[str, Tensor]:
        """Returns the tensors of all of them."""
        return {name: tensor for part in self.parts for name, tensor in part(previous, following).items()}


class ChannelMixing(nn.Module):
    """Brings a kernel to another number of channels along one axis: W' = M W, M (wanted, given).

    M averages groups of channels where there are too many, and repeats channels where there are too few.

    Args:
        axis: 0 for output channels, 1 for input channels.
        given: Channels of the kernel.
        wanted: Channels asked for.
        learned: Whether M is learnt, and only begins like that.
    """

    matrix: Tensor

    def __init__(self, axis: int, given: int, wanted: int, *, learned: bool) -> None:
        super().__init__()
        self.axis = axis
        matrix = F.adaptive_avg_pool1d(torch.eye(given)[None], wanted)[0].T.contiguous()
        if learned:
            self.matrix = nn.Parameter(matrix)
        else:
            self.register_buffer("matrix", matrix, persistent=False)

    def forward(self, kernel: Tensor) -> Tensor:
        """Returns the mixed kernel. Shapes: (C_out, C_in, k, k), with ``given`` becoming ``wanted`` at the axis."""
        front = kernel.movedim(self.axis, 0)  # (given, other, k, k)
        return (self.matrix @ front.flatten(1)).unflatten(1, front.shape[1:]).movedim(0, self.axis)


class KernelFusion(Synthesis):
    """W = sum_j a_j W_j,previous + sum_j b_j W_j,following: one kernel from all that play its part in the neighbours.

    Args:
        target: Name of the kernel that is made.
        previous: Names and shapes of the previous block's kernels.
        following: Of the following block's.
        shape: That is wanted; other numbers of channels are mixed to it.
        config: Of the scales, of which each kernel has its own.
        learned: Whether the mixing of channels is learnt.
    """

    def __init__(
        self,
        target: str,
        previous: Mapping[str, torch.Size],
        following: Mapping[str, torch.Size],
        shape: torch.Size,
        config: ScaleConfig,
        *,
        learned: bool,
    ) -> None:
        super().__init__()
        self.targets = (target,)
        self.scales = Scales(config, len(previous))
        self._names = (tuple(previous), tuple(following))
        given = [*previous.values(), *following.values()]
        self.mixes = nn.ModuleList(_mixing(found, shape, learned=learned) for found in given)

    def forward(self, previous: Tensors, following: Tensors) -> dict[str, Tensor]:
        """Returns the kernel, (C_out, C_in, k, k)."""
        kernels = [*(previous[name] for name in self._names[0]), *(following[name] for name in self._names[1])]
        scales = torch.cat([self.scales.a, self.scales.b]).unbind()
        mixed: list[Tensor] = [
            scale * mix(kernel) for scale, mix, kernel in zip(scales, self.mixes, kernels, strict=True)
        ]
        return {self.targets[0]: sum(mixed[1:], mixed[0])}


class LayerFusion(Synthesis):
    """One layer from several of equal shape: weight and bias are sum_j a_j previous_j + sum_j b_j following_j.

    Args:
        target: Name of the layer that is made.
        layers: Names of those that it is made from, the same in both neighbours.
        config: Of the scales, of which each layer has its own.
    """

    def __init__(self, target: str, layers: Sequence[str], config: ScaleConfig) -> None:
        super().__init__()
        self.targets = (f"{target}.weight", f"{target}.bias")
        self.scales = Scales(config, len(layers))
        self._layers = tuple(layers)

    def forward(self, previous: Tensors, following: Tensors) -> dict[str, Tensor]:
        """Returns weight and bias."""
        scales = torch.cat([self.scales.a, self.scales.b]).unbind()
        made: dict[str, Tensor] = {}
        for target in self.targets:
            leaf = target.rpartition(".")[2]
            given = [tensors[f"{layer}.{leaf}"] for tensors in (previous, following) for layer in self._layers]
            scaled: list[Tensor] = [scale * tensor for scale, tensor in zip(scales, given, strict=True)]
            made[target] = sum(scaled[1:], scaled[0])
        return made


def _mixing(given: torch.Size, wanted: torch.Size, *, learned: bool) -> nn.Module:
    axes = [axis for axis in (0, 1) if given[axis] != wanted[axis]]
    return nn.Sequential(*(ChannelMixing(axis, given[axis], wanted[axis], learned=learned) for axis in axes))


class ValueOutput(Synthesis):
    """W = a (W_o W_v)_previous + b (W_o W_v)_following: what an attention does to a token that attends to itself.

    Args:
        target: Name of the matrix that is made, (D, D).
        config: Of the single pair of scales.
    """

    def __init__(self, target: str, config: ScaleConfig) -> None:
        super().__init__()
        self.targets = (target,)
        self.scales = Scales(config)

    def forward(self, previous: Tensors, following: Tensors) -> dict[str, Tensor]:
        """Returns the matrix."""
        return {self.targets[0]: self.scales.a * _value_output(previous) + self.scales.b * _value_output(following)}


def _value_output(tensors: Tensors) -> Tensor:
    _, _, value = tensors["attn.qkv.weight"].chunk(3)  # (D, D)
    return tensors["attn.proj.weight"] @ value  # (D, D)
