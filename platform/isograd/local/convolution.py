"""Strided 1x1 convolutions of few channels, computed so that oneDNN does not overrun its workspace.

For the weights' gradient of a 1x1 convolution with a stride, oneDNN first gathers the rows and columns that the stride
keeps. In NHWC memory order it gathers whole blocks of input channels (8 with AVX2, 16 with AVX-512) into a workspace
that is as large as the channels there are: with fewer, the gradient is wrong or the process dies (uxlfoundation/oneDNN,
issue 6035). Seen with AVX2, for 2 to 7 channels; with AVX-512 neither a wrong gradient nor a write past a block of the
heap was found (oneDNN of torch 2.14.1); the issue's own patch names both, so its block counts too. Here the rows and
columns are picked beforehand, by a pooling of 1x1 windows, and the convolution has no stride. That is the same sum of
the same products, in any memory order and on any CPU.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

NUM_BLOCK_CHANNELS = 16
"""The widest block of channels that oneDNN gathers on any CPU."""


def overruns(kernel: Sequence[int], stride: Sequence[int], channels_per_group: int) -> bool:
    """Whether oneDNN may write past its workspace.

    Args:
        kernel: Sizes (k_h, k_w), or as many as there are axes.
        stride: One for each axis, or one for all.
        channels_per_group: Input channels that a filter sees, C_in / groups.
    """
    return channels_per_group < NUM_BLOCK_CHANNELS and max(kernel) == 1 and max(stride) > 1


class _Subsampling(_ConvNd):
    """The part of ``Conv1d``, ``Conv2d`` and ``Conv3d`` that runs the convolution, without a stride."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
        padding = self.padding if self.padding_mode == "zeros" else 0
        convolution = _CONVOLUTIONS[len(self.kernel_size)]
        found = _without_stride(convolution, input, weight, bias, self.stride, padding, 1, self.groups)
        assert found is not None, "a convolution has this class because it would overrun"
        return found


class SubsamplingConv1d(_Subsampling, nn.Conv1d):
    """A ``Conv1d`` with kernel 1 that picks its columns before it convolves. Shapes: (B, C, N) -> (B, O, N')."""


class SubsamplingConv2d(_Subsampling, nn.Conv2d):
    """A 1x1 ``Conv2d`` that picks rows and columns before it convolves. Shapes: (B, C, H, W) -> (B, O, H', W')."""


class SubsamplingConv3d(_Subsampling, nn.Conv3d):
    """A 1x1x1 ``Conv3d`` that subsamples before it convolves. Shapes: (B, C, D, H, W) -> (B, O, D', H', W')."""


_SUBSAMPLING = {nn.Conv1d: SubsamplingConv1d, nn.Conv2d: SubsamplingConv2d, nn.Conv3d: SubsamplingConv3d}
_CONVOLUTIONS = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}
_POOLINGS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_NUM_AXES: dict[Any, int] = {convolution: axes for axes, convolution in _CONVOLUTIONS.items()}


def replace_overrunning(module: nn.Module) -> bool:
    """Lets the convolutions of a module subsample first, where oneDNN would overrun its workspace.

    A convolution changes its class; weights, buffers and their names stay what they are.

    Returns:
        Whether one is left that runs code of its own (a subclass of ``Conv2d``), for :class:`Subsampled`.
    """
    is_any_left = False
    for part in module.modules():
        if isinstance(part, _ConvNd) and not part.transposed:
            if not overruns(part.kernel_size, part.stride, part.in_channels // part.groups):
                continue
            if type(part) in _SUBSAMPLING:
                part.__class__ = _SUBSAMPLING[type(part)]
            elif not isinstance(part, _Subsampling):
                is_any_left = True
    return is_any_left


class Subsampled(TorchFunctionMode):
    """Within it, every convolution subsamples first where oneDNN would overrun its workspace.

    Reaches what no class of a module tells: convolutions that are called as functions.

    Attributes:
        num_replaced: Convolutions that were replaced so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_replaced = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs a function of torch."""
        kwargs = kwargs or {}
        found = _without_stride(func, *args, **kwargs) if func in _NUM_AXES else None
        if found is None:
            return func(*args, **kwargs)
        self.num_replaced += 1
        return found


def _without_stride(
    convolution: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor | None:
    """Returns a strided convolution with a kernel of 1, which dilation cannot change; None where none would overrun."""
    strides = (stride,) if isinstance(stride, int) else tuple(stride)
    if not overruns(weight.shape[2:], strides, weight.shape[1]):
        return None
    num_axes = _NUM_AXES[convolution]
    if not isinstance(padding, str):  # "valid" is none, and torch refuses "same" with a stride
        padding = [padding] * num_axes if isinstance(padding, int) else list(padding) * (num_axes // len(padding))
        if any(padding):
            input = F.pad(input, [size for axis in reversed(padding) for size in (axis, axis)])
    # a pooling, since it keeps the memory order, backward too, which indexing does not
    return convolution(_POOLINGS[num_axes](input, 1, strides), weight, bias, groups=groups)
