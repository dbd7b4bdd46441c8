"""The exponential moving average of a unit of a later local module (MAN, Su et al. 2024; MLAAN, Zhang et al. 2025)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Frozen(nn.Module):
    """A block whose weights no gradient changes; the activation's gradient flows through it.

    Args:
        block: Whose weights are frozen.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block.requires_grad_(False)

    def forward(self, value: Tensor) -> Tensor:
        """Returns the block's output."""
        return self.block(value)


class EMA(Frozen):
    """A frozen block with the weights' average of a unit: ema <- m ema + (1 - m) weights, m the decay.

    In step t it has absorbed the weights that the unit had at the beginning of the steps 0 .. t - 1 (less ``lag``), so
    the newest are one update old.

    Args:
        block: Has the unit's architecture.
        source: Name of the unit.
        decay: m, in [0, 1).
        lag: How many steps later than that it absorbs them. 0 is what the papers' code does.

    Note:
        All parameters are averaged, BatchNorm's affine ones included. BatchNorm's running statistics are not: the
        block runs on batch statistics and keeps its own, as in the released code.
    """

    def __init__(self, block: nn.Module, source: str, decay: float, lag: int = 0) -> None:
        super().__init__(block)
        self.source, self.decay, self.lag = source, decay, lag

    @torch.no_grad()
    def absorb(self, weights: Mapping[str, Tensor]) -> None:
        """Moves the average towards ``weights``, by the names of the block's parameters."""
        for name, average in self.block.named_parameters():
            average.mul_(self.decay).add_(weights[name], alpha=1 - self.decay)
