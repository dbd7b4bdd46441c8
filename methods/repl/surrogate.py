"""Lighter layers in the place of whole blocks, on weights made from the neighbours' (RepL, version 2 of the paper)."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd.errors import BackboneError
from isograd.methods.repl.sites import Gap
from isograd.methods.repl.synthesis import Blend, KernelFusion, LayerFusion, ScaleConfig, Synthesis, Union, ValueOutput
from isograd.models.backbone import Unit
from isograd.models.edsr import ResidualBlock


@dataclass(frozen=True)
class SurrogateConfig:
    """Attributes:
    scales: Where the scales start.
    form: Of a transformer's surrogate: ``parallel`` or ``linear``.
    learned_mixing: Whether the mixing of channels, where neighbours have others, is learnt.
    """

    scales: ScaleConfig
    form: str = "parallel"
    learned_mixing: bool = False


class ConvolutionSurrogate(nn.Module):
    """y = ReLU(x + BN(conv(x))), with one convolution for a basic block and three in a row for a bottleneck.

    Args:
        kernels: Shapes of the kernels, (C_out, C_in, k, k) each.

    Shapes: (B, C, H, W) -> (B, C, H, W).
    """

    def __init__(self, *kernels: torch.Size) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(*map(_convolution, kernels))
        self.norm = nn.BatchNorm2d(kernels[-1][0])

    def forward(self, value: Tensor) -> Tensor:
        """Returns the output of the block."""
        return F.relu(value + self.norm(self.convolutions(value)))


class ResidualSurrogate(nn.Module):
    """y = x + r conv(ReLU(x)), for a residual block without normalisation.

    Args:
        block: Has the residual scale r.
        width: C.

    Shapes: (B, C, H, W) -> (B, C, H, W).
    """

    def __init__(self, block: ResidualBlock, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, width, 3, padding=1, device="meta")
        self.residual_scale = block.residual_scale

    def forward(self, value: Tensor) -> Tensor:
        """Returns the output of the block."""
        return torch.add(value, self.convolution(F.relu(value)), alpha=self.residual_scale)


class ParallelSurrogate(nn.Module):
    """y = x + Attn(LN(x)) + MLP(LN(x)), with a LayerNorm of its own.

    Its parts have the names they have in the block, so that their tensors do, too. What the attention may see is its
    own business (:class:`isograd.models.gpt.CausalAttention`): here as in the block, it is called without a mask.

    Args:
        block: A transformer block of timm.

    Shapes: (B, N, D) -> (B, N, D).
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm = _fresh_norm(block)
        self.attn, self.ls1, self.drop_path1 = map(copy.deepcopy, (block.attn, block.ls1, block.drop_path1))
        self.mlp, self.ls2, self.drop_path2 = map(copy.deepcopy, (block.mlp, block.ls2, block.drop_path2))

    def forward(self, value: Tensor) -> Tensor:
        """Returns the output of the block."""
        normed = self.norm(value)
        attended = self.drop_path1(self.ls1(self.attn(normed)))
        return value + attended + self.drop_path2(self.ls2(self.mlp(normed)))


class LinearSurrogate(nn.Module):
    """y = x + LN(x) W, with a LayerNorm of its own.

    Args:
        block: A transformer block of timm.
        width: D.

    Shapes: (B, N, D) -> (B, N, D).
    """

    def __init__(self, block: Any, width: int) -> None:
        super().__init__()
        self.norm, self.drop_path = _fresh_norm(block), copy.deepcopy(block.drop_path1)
        self.linear = nn.Linear(width, width, bias=False, device="meta")

    def forward(self, value: Tensor) -> Tensor:
        """Returns the output of the block."""
        return value + self.drop_path(self.linear(self.norm(value)))


def surrogate(gap: Gap, config: SurrogateConfig) -> tuple[nn.Module, Synthesis]:
    """Returns what stands in for a block, and what makes its weights.

    Raises:
        BackboneError: The three blocks are neither residual blocks of plain convolutions nor timm's transformer blocks,
            or their weights do not fit each other.

    Note:
        Our readings of what the specification leaves open: a bottleneck's three fused convolutions follow each other
        without normalisation or activation between them, so the surrogate is one convolution of low rank, as a basic
        block's is one. The linear form leaves out attention's biases and layer scales. A block's stochastic depth
        stays in its surrogate.
    """
    if _is_transformer(gap.block):
        return _transformer(gap, config)
    if isinstance(gap.block.module, ResidualBlock) and gap.matches:
        template = ResidualSurrogate(gap.block.module, gap.block.output.channels)
        return template, LayerFusion("convolution", ("body.0", "body.2"), config.scales)
    return _convolutional(gap, config)


def _transformer(gap: Gap, config: SurrogateConfig) -> tuple[nn.Module, Synthesis]:
    if not gap.matches:
        raise BackboneError(
            f"cannot build a surrogate of unit '{gap.block.name}': {gap.previous.name} and {gap.following.name} have "
            "weights of other names or shapes",
            "Those of transformer blocks are mixed one by one",
            "Use method.interval=K with another K, or a backbone with equal blocks.",
        )
    block: Any = gap.block.module
    if config.form == "linear":
        return LinearSurrogate(block, gap.block.output.channels), ValueOutput("linear.weight", config.scales)
    template = ParallelSurrogate(block)
    names = [name for name, _ in template.named_parameters() if not name.startswith("norm.")]
    groups = [[name for name in names if name.startswith(parts)] for parts in (("attn.", "ls1."), ("mlp.", "ls2."))]
    return template, Union([Blend(group, config.scales) for group in groups])


def _convolutional(gap: Gap, config: SurrogateConfig) -> tuple[nn.Module, Synthesis]:
    roles = [_roles(unit) for unit in (gap.previous, gap.block, gap.following)]
    if len({len(found) for found in roles}) > 1:
        raise _unfit(gap.block, "beside it are blocks with another number of convolutions")
    previous, own, following = roles
    shapes = [next(iter(role.values())) for role in own]
    if len(shapes) == 1:
        channels = gap.block.output.channels
        shapes = [torch.Size((channels, channels, 3, 3))]
    fusions = [
        KernelFusion(f"convolutions.{at}.weight", before, after, shape, config.scales, learned=config.learned_mixing)
        for at, (before, after, shape) in enumerate(zip(previous, following, shapes, strict=True))
    ]
    return ConvolutionSurrogate(*shapes), Union(fusions)


def _roles(unit: Unit) -> list[dict[str, torch.Size]]:
    """Returns, for each convolution of the surrogate, the kernels of a block that it is fused from.

    A basic block has both 3x3 kernels in one role. A bottleneck has three roles: its 3x3 kernel, the 1x1 before it and
    the first 1x1 after it. Other 1x1 kernels, of shortcuts, are passed over.
    """
    found = [(name, part) for name, part in unit.module.named_modules() if isinstance(part, nn.Conv2d)]
    sizes = [part.kernel_size for _, part in found]
    known = {(1, 1), (3, 3)} >= set(sizes) and unit.output.layout == "NCHW"
    if not known or any(part.groups > 1 for _, part in found):
        raise _unfit(unit, f"its convolutions have sizes {sizes} and groups {[part.groups for _, part in found]}")
    kernels = [(f"{name}.weight", part.weight.shape) for name, part in found]
    middle = [at for at, size in enumerate(sizes) if size == (3, 3)]
    if len(middle) == 2:
        return [dict(kernels[at] for at in middle)]
    if len(middle) == 1 and 0 < middle[0] < len(kernels) - 1:
        return [dict([kernels[at]]) for at in range(middle[0] - 1, middle[0] + 2)]
    raise _unfit(unit, f"it has {len(middle)} 3x3 convolutions of {len(kernels)}")


def _unfit(unit: Unit, why: str) -> BackboneError:
    return BackboneError(
        f"cannot build a surrogate from unit '{unit.name}' ({type(unit.module).__name__}): {why}",
        "Known are residual blocks of two 3x3 convolutions, bottlenecks of 1x1, 3x3 and 1x1 without groups, and timm's "
        "transformer blocks",
        "Use method.mode=scalar.",
    )


def _is_transformer(unit: Unit) -> bool:
    from timm.models.vision_transformer import Block

    return isinstance(unit.module, Block)


def _fresh_norm(block: Any) -> nn.Module:
    norm = copy.deepcopy(block.norm1)
    norm.reset_parameters()
    return norm


def _convolution(shape: torch.Size) -> nn.Module:
    # Its kernel is synthesised: none has to be drawn.
    return nn.Conv2d(shape[1], shape[0], shape[2], padding=shape[2] // 2, bias=False, device="meta")
