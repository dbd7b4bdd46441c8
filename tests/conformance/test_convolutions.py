"""Convolutions are right as we run them by default: memory order, number format, threads; on any CPU, in any network.

The grid runs in a process of its own, so that one that crashes it is a failure with a name.
"""

import copy
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd.engine.blueprint import Blueprint
from isograd.local.convolution import Subsampled, SubsamplingConv2d
from isograd.local.learner import Learner, Precision
from isograd.local.message import Kind, Message
from isograd.local.method import METHODS
from tests.convolutions import END, Spy, learner_of, shapes
from tests.runs import config, opened, program

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60  # for the next shape


def run(learner: Learner, value: Tensor) -> Tensor:
    return learner.module(learner.entering(Message(Kind.TRAIN, 1, values={"x": value})))["x"]


def run_grid(first: int, instructions: str) -> tuple[int, list[str]]:
    """Runs shapes from one on; returns what is wrong, and the position to go on at (as many as there are: at none)."""
    paths = os.pathsep.join([str(ROOT / "platform"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "tests.convolutions", str(first)]
    environment = os.environ | {"PYTHONPATH": paths, "ONEDNN_MAX_CPU_ISA": instructions}
    problems, position, name, line = [], first, "nothing", ""
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            for line in map(str.strip, child.stdout):
                if line.startswith("wrong: "):
                    problems.append(line)
                elif line != END:
                    number, _, name = line.partition(" ")
                    position = int(number)
        finally:
            child.kill()
    if line == END:
        return len(shapes()), problems
    ending = signal.Signals(-child.returncode).name if child.returncode < 0 else f"status {child.returncode}"
    return position + 1, [*problems, f"died of {ending}: {name}"]


@pytest.mark.parametrize("instructions", ["ALL", pytest.param("AVX2", marks=pytest.mark.long)])
def test_every_shape_agrees_with_float64(instructions: str) -> None:
    if instructions == "AVX2" and torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("this CPU has no wider instructions than AVX2, with which the grid runs anyway")
    position, problems = 0, []
    while position < len(shapes()) and len(problems) < 50:
        position, more = run_grid(position, instructions)
        problems += more
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("method", list(METHODS))
def test_no_method_runs_a_convolution_that_overruns(method: str) -> None:
    blueprint = Blueprint(config(f"method={method}", "model=resnet20", "model.width=4", "executor=sequential"))
    spy = Spy()
    with opened(blueprint) as executor, spy:
        for _ in executor.fit(program(blueprint, max_steps=2, evaluates=False)):
            pass
    assert not spy.overrunning


class OwnConvolution(nn.Conv2d):
    """Runs code of its own, as timm's convolutions with "same" padding do."""

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight - 1, self.bias, self.stride)


class Borrowed(nn.Module):
    """Convolves with what another module owns, in another shape."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Linear(4, 16, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        return torch.conv2d(input, self.table.weight.view(16, 4, 1, 1), stride=(1, 2))


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(4, 16, 1, 2, bias=False),
        nn.Conv2d(4, 16, 1, (1, 3), padding=2, padding_mode="reflect"),
        nn.Conv2d(32, 64, 1, 2, groups=8),
        nn.Sequential(OwnConvolution(4, 16, 1, 2)),
        Borrowed(),
    ],
    ids=["plain", "padded", "grouped", "own", "borrowed"],
)
def test_no_form_of_a_convolution_overruns(module: nn.Module) -> None:
    value = torch.randn(8, 32 if next(module.parameters()).shape[0] == 64 else 4, 12, 12)
    learner, spy = learner_of(module), Spy()
    for _ in range(2):
        with learner.computing(), spy:
            output = run(learner, value)
        output.sum().backward()
        learner.update_weights()
    assert not spy.overrunning


@pytest.mark.long
@pytest.mark.parametrize("make", [lambda: nn.Conv2d(4, 16, 1, (1, 2)), Borrowed], ids=["plain", "borrowed"])
def test_compiled_ones_are_right(make: Callable[[], nn.Module]) -> None:
    value, module = torch.randn(8, 4, 32, 32), make()
    exact = copy.deepcopy(module).double()
    exact(value.double()).square().sum().backward()
    expected = [weight.grad.float() for weight in exact.parameters() if weight.grad is not None]
    learner = learner_of(module, Precision(compile=True))
    for _ in range(3):
        module.zero_grad()
        with learner.computing():
            output = run(learner, value)
        output.square().sum().backward()
        torch.testing.assert_close([weight.grad for weight in module.parameters()], expected, rtol=1e-3, atol=1e-2)


def test_a_convolution_keeps_its_names_and_computes_the_same() -> None:
    torch.manual_seed(0)
    choices: list[dict[str, Any]] = [
        {},
        {"padding": 1},
        {"padding": "valid"},
        {"padding": (2, 1), "padding_mode": "circular"},
    ]
    for options in choices:
        convolution = nn.Conv2d(6, 9, 1, (2, 3), groups=3, **options).double()
        value = torch.randn(2, 6, 11, 13, dtype=torch.float64)
        expected, names = convolution(value), list(convolution.state_dict())
        with torch.no_grad():
            found = run(learner_of(convolution, Precision(dtype="float64")), value)
        assert isinstance(convolution, SubsamplingConv2d) and list(convolution.state_dict()) == names
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("function", "shape"), [(F.conv1d, (2, 4, 9)), (F.conv2d, (4, 9, 10)), (F.conv3d, (2, 4, 5, 6, 7))]
)
def test_functions_of_any_number_of_axes_compute_the_same(function: Any, shape: Sequence[int]) -> None:
    value, num_axes = torch.randn(shape, dtype=torch.float64), function.__name__[4]
    weight = torch.randn(8, 4, *[1] * int(num_axes), dtype=torch.float64)
    for options in ({"stride": 2}, {"stride": 3, "padding": 1}):
        expected = function(value, weight, **options)
        with Subsampled() as mode:
            torch.testing.assert_close(function(value, weight, **options), expected)
        assert mode.num_replaced == 1


def test_others_are_left_alone() -> None:
    for module in (nn.Conv2d(16, 32, 1, 2), nn.Conv2d(4, 16, 1), nn.Conv2d(4, 16, 3, 2), nn.Conv2d(4, 16, (1, 3), 2)):
        learner = learner_of(module)
        value = torch.randn(2, module.in_channels, 8, 8)
        with learner.computing():
            run(learner, value).sum().backward()
        learner.update_weights()
        assert type(module) is nn.Conv2d and learner.subsampled is None
