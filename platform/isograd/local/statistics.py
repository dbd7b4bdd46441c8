"""BatchNorm statistics of modules whose forward pass stands for several."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def repeat_statistics(unit: nn.Module, count: int) -> list[_BatchNorm]:
    """Makes one forward pass of ``unit`` move its running statistics as ``count`` passes over the same batch would.

    With momentum m, r <- (1 - m) r + m s, applied n times to the same s, is once with momentum 1 - (1 - m)^n.

    Returns:
        Its BatchNorm layers. Their batch counters have to be raised by ``count`` - 1 after each pass.
    """
    layers = [layer for layer in unit.modules() if isinstance(layer, _BatchNorm) and layer.momentum is not None]
    for layer in layers:
        single = layer.__dict__.setdefault("single_momentum", layer.momentum)
        layer.momentum = 1 - (1 - single) ** count
    return layers
