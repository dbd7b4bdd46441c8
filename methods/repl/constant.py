"""Convolutions whose kernel is a constant: they keep no input for a weight gradient that nobody asks for.

Linear layers with constant weights keep none anyway. PyTorch's convolution always does (2.15).
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode


class ConstantConvolution(torch.autograd.Function):
    """A two-dimensional convolution that is differentiated by its input only.

    Shapes: value (B, C_in, H, W), kernel (C_out, C_in / groups, k_h, k_w), bias (C_out) or None -> (B, C_out, H', W').
    """

    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        kernel: Tensor,
        bias: Tensor | None,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
    ) -> Tensor:
        """Returns ``torch.conv2d`` of its arguments; keeps the kernel."""
        output = torch.conv2d(value, kernel, bias, stride, padding, dilation, groups)
        ctx.save_for_backward(kernel)
        ctx.shape, ctx.dtype, ctx.arguments = value.shape, value.dtype, (stride, padding, dilation, groups)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns the gradient with respect to the input."""
        stride, padding, dilation, groups = ctx.arguments
        kernel = ctx.saved_tensors[0].to(gradient.dtype)  # under autocast the convolution ran in a shorter format
        shape_only = gradient.new_empty(1).expand(ctx.shape)
        found, _, _ = torch.ops.aten.convolution_backward(
            gradient, shape_only, kernel, None, stride, padding, dilation, False, [0, 0], groups, [True, False, False]
        )
        return found.to(ctx.dtype), None, None, None, None, None, None


class _ConstantKernels(TorchFunctionMode):
    """Within it, convolutions with constant kernels are :class:`ConstantConvolution`."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.conv2d and not kwargs and len(args) == 7 and _is_plain(args) and not _learns(args[1:3]):
            return ConstantConvolution.apply(*args)
        return func(*args, **(kwargs or {}))


def _is_plain(args: tuple[Any, ...]) -> bool:
    """Whether stride, padding and dilation are pairs, as nn.Conv2d hands them on (padding may be a word)."""
    return all(isinstance(pair, tuple) for pair in args[3:6])


def constant_kernels(weights: Iterable[Tensor]) -> AbstractContextManager[Any]:
    """Returns the context for a forward pass with these weights: nothing special where one of them learns."""
    if torch.is_grad_enabled() and not _learns(weights):
        return _ConstantKernels()
    return nullcontext()


def _learns(weights: Iterable[Tensor | None]) -> bool:
    return any(weight is not None and weight.requires_grad for weight in weights)
