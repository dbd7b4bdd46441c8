"""Convolutions as a local module runs them by default, held against float64. A process of its own: they may crash it.

``python -m tests.convolutions FIRST`` prints each shape before it runs it, from that position on, and what is wrong.
"""

import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from isograd.data.field import Field
from isograd.local.learner import Learner, Precision, make_learner
from isograd.local.message import Kind, Message
from isograd.local.module import LocalModule, Silent
from isograd.local.optimizer import SGD, Constant
from isograd.models.backbone import Feature, Unit
from isograd.tasks.classification import Classification

NUM_CHANNELS = (*range(1, 18), 24, 32, 33)
TOLERANCE = 1e-5  # of the sum of absolute products: float32 rounds to 6e-8, over at most some thousand summands
END = "all have run"


@dataclass(frozen=True)
class Shape:
    """A convolution, as a module, as a function that a module calls, or transposed (a module)."""

    form: str
    kernel: int
    stride: int
    channels: int
    filters: int
    groups: int
    dilation: int
    threads: int = 1

    def __str__(self) -> str:
        return (
            f"{self.form} {self.kernel}x{self.kernel} stride={self.stride} channels={self.channels} "
            f"filters={self.filters} groups={self.groups} dilation={self.dilation} threads={self.threads}"
        )


def shapes() -> list[Shape]:
    found = []
    for kernel, stride, channels in itertools.product((1, 3, 5), (1, 2), NUM_CHANNELS):
        for groups, filters, dilation in _others(kernel, channels):
            shape = Shape("module", kernel, stride, channels, filters, groups, dilation)
            found += [shape, replace(shape, form="transposed")]
            if kernel == 1 and stride > 1:
                found += [replace(shape, form="function"), replace(shape, threads=2)]
    return found


def _others(kernel: int, channels: int) -> Iterator[tuple[int, int, int]]:
    """Yields groups, filters and dilations."""
    for filters in (1, 16, 33):
        yield 1, filters, 1
    if kernel == 3:
        yield 1, 16, 2
    for groups in {2, channels} - {1}:
        if channels % groups == 0 and kernel < 5:
            yield groups, 2 * groups, 1


class Called(nn.Module):
    """A convolution that a module calls as a function."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias, self.options = convolution.weight, convolution.bias, _options(convolution)

    def forward(self, value: Tensor) -> Tensor:
        return F.conv2d(value, self.weight, self.bias, **self.options)


class Spy(TorchDispatchMode):
    """Lists the convolutions that oneDNN would compute in a workspace which is too small, whatever the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.overrunning: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            value, weight, _, stride, _, _, is_transposed, *_ = args
            is_pointwise = all(size == 1 for size in weight.shape[2:])
            if is_pointwise and max(stride) > 1 and weight.shape[1] < 16 and not is_transposed:
                self.overrunning.append(f"{tuple(value.shape)} by {tuple(weight.shape)}, stride {list(stride)}")
        return func(*args, **(kwargs or {}))


def _options(convolution: nn.Conv2d | nn.ConvTranspose2d) -> dict[str, Any]:
    names = ("stride", "padding", "dilation", "groups")
    return {name: getattr(convolution, name) for name in names}


def learner_of(module: nn.Module, precision: Precision = Precision()) -> Learner:  # noqa: B008
    unit = Unit("unit", module, {"x": Feature((1, 1, 1), "NCHW")})
    options: dict[str, Any] = {"num_epochs": 1, "precision": precision, "device": torch.device("cpu"), "seed": 0}
    targets = {"label": Field((), torch.int64, "label", 2)}
    options["task"] = Classification(Classification.Config(), {}, targets)
    return make_learner(LocalModule(0, [unit], Silent(), entering=["x"], leaving=["x"]), SGD(), Constant(), **options)


def wrong(shape: Shape) -> list[str]:
    """Runs a convolution forward and backward as a local module does; returns what is not as in float64."""
    make = nn.ConvTranspose2d if shape.form == "transposed" else nn.Conv2d
    sizes = (shape.channels, shape.filters, shape.kernel, shape.stride, shape.dilation * (shape.kernel // 2))
    convolution = make(*sizes, groups=shape.groups, dilation=shape.dilation)
    value = torch.randn(8, shape.channels, 16, 14)
    function: Any = F.conv_transpose2d if shape.form == "transposed" else F.conv2d
    weights = (convolution.weight.detach(), convolution.bias.detach())  # pyright: ignore[reportOptionalMemberAccess]
    given = [tensor.double() for tensor in (value, *weights)]
    options = _options(convolution)
    gradient = torch.randn(function(*given, **options).shape, dtype=torch.float64)
    expected = _computed(lambda *tensors: function(*tensors, **options), given, gradient)
    scales = _computed(lambda *tensors: function(*tensors, **options), [x.abs() for x in given], gradient.abs())
    learner = learner_of(Called(convolution) if shape.form == "function" else convolution)  # pyright: ignore
    value = learner.entering(Message(Kind.TRAIN, 1, values={"x": value}))["x"].detach()
    torch.set_num_threads(shape.threads)
    own = [value, *learner.module.parameters()]
    spy = Spy()
    with learner.computing(), spy:
        found = _computed(lambda entry, *_: learner.module({"x": entry})["x"], own, gradient.float())
    problems = [f"oneDNN would overrun its workspace: {text}" for text in spy.overrunning]
    for name, one, other, scale in zip(("output", "input", "weight", "bias"), found, expected, scales, strict=True):
        distance = ((one.double() - other).abs() / scale.clamp_min(1e-30)).max().item()
        if not distance < TOLERANCE:
            problems.append(f"{name}{' gradient' if name != 'output' else ''} is off by {distance:.1e} of its summands")
    return problems


def _computed(function: Any, given: list[Tensor], gradient: Tensor) -> list[Tensor]:
    """Returns the output, and the gradients of what is given."""
    given = [tensor.requires_grad_() for tensor in given]
    output = function(*given)
    return [output.detach(), *torch.autograd.grad(output, given, gradient)]


def main(first: int) -> None:
    for position, shape in list(enumerate(shapes()))[first:]:
        print(f"{position} {shape}", flush=True)
        torch.manual_seed(position)
        for problem in wrong(shape):
            print(f"wrong: {shape}: {problem}", flush=True)
    print(END, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
