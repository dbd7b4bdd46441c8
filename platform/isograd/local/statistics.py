"""BatchNorm statistics of modules whose forward pass stands for several."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True)
class Repeated:
    """A BatchNorm layer whose forward pass stands for ``count`` passes; ``momentum`` is that of one."""

    layer: _BatchNorm
    momentum: float
    count: int


def repeated(module: nn.Module, count: int) -> list[Repeated]:
    """Returns the BatchNorm layers of a module whose forward pass stands for ``count`` passes; none for one."""
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)] if count > 1 else []
    return [Repeated(layer, layer.momentum, count) for layer in layers if layer.momentum is not None]


@contextmanager
def repeating(layers: Sequence[Repeated]) -> Iterator[None]:
    """Makes a training pass move running statistics as that many passes over the same batch would.

    With momentum m, r <- (1 - m) r + m s, applied n times to the same s, is once with momentum 1 - (1 - m)^n. Momenta
    are changed for the pass only: blocks are copied for auxiliary networks, and a copy stands for one pass.
    """
    try:
        for item in layers:
            item.layer.momentum = 1 - (1 - item.momentum) ** item.count
        yield
    finally:
        for item in layers:
            item.layer.momentum = item.momentum
            if item.layer.num_batches_tracked is not None:
                item.layer.num_batches_tracked += item.count - 1
