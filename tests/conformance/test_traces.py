"""Our methods compute what the authors' released code computes, number for number.

Traces hold the losses of five training steps and the final tensors (sum and norm), in float64. Weights are rebuilt by
name, batches by number; see ``released_weight`` and ``TraceSource``.
"""

import dataclasses
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from isograd.data.batch import Batch
from isograd.executor.blueprint import Blueprint
from isograd.executor.executor import make_executor
from isograd.executor.program import Program
from isograd.report.events import ModuleMetrics
from torch import Tensor

from tests.runs import config

TRACES = Path(__file__).parents[1] / "data" / "traces"
NUM_STEPS = 5
RECIPE = (
    "model=resnet32",
    "partition=published",
    "precision.dtype=float64",
    f"train.epochs={NUM_STEPS}",
    "optimizer.lr=0.01",
    "data.mean=[0.49137254901960784,0.4823529411764706,0.4466666666666667]",
    "data.std=[0.24705882352941178,0.24352941176470588,0.2615686274509804]",
)
INFOPRO = ("method=infopro", "partition.num_modules=4", "method.lambda1=[5,0.2]", "method.lambda2=[0.5,0.5]")
CASES = {
    "infopro_softmax_r32_k4": INFOPRO,
    "infopro_contrast_r32_k4": (*INFOPRO, "method.loss=contrast"),
    "dgl_r32_k16": ("method=dgl", "method.auxiliary=auglocal", "partition.num_modules=16"),
}


@dataclasses.dataclass
class TraceSchedule:
    """0.01 (1 - 0.1 t), one step an epoch."""

    name: str = "trace"

    def lr(self, peak: float, epoch: int, num_epochs: int) -> float:
        return peak * (1 - 0.1 * (epoch - 1))


class TraceSource:
    """One batch of 8 an epoch, drawn by the traces' rule."""

    num_train, num_test, batch_size, held_bytes = 8, 0, 8, 0

    def on(self, device: torch.device) -> "TraceSource":
        return self

    def train(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        generator = np.random.Generator(np.random.PCG64(1000 + epoch - 1))
        pixels = generator.integers(0, 256, (8, 3, 32, 32))
        targets = generator.integers(0, 10, (8,))
        yield Batch(torch.from_numpy(pixels).to(torch.uint8), torch.from_numpy(targets), torch.arange(8), 0)

    def test(self) -> Iterator[Batch]:
        yield from ()


def released_name(name: str) -> str:
    """Maps our name of a tensor to the released code's."""
    name = name.removeprefix("backbone.").removeprefix("stem.")
    if name.startswith("head."):
        return name.removeprefix("head.")
    match = re.fullmatch(r"auxiliary\.(stem|layer(\d)\.(\d+))\.(decoder|head)\.(\d+)\.(.+)", name)
    if match is None:
        return name
    stage, block = match[2] or "0", match[3] or "0"
    if match[4] == "decoder":  # our decoder holds the resize as its part 0
        return f"decoder_{stage}_{block}.decoder.{int(match[5]) - 1}.{match[6]}"
    return f"aux_classifier_{stage}_{block}.head.{match[5]}.{match[6]}"


def released_weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """Draws a parameter by the traces' rule."""
    drawn = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(shape)
    if len(shape) == 4:
        drawn = drawn * np.sqrt(2 / (shape[2] * shape[3] * shape[0]))
    elif len(shape) == 2:
        drawn = drawn / np.sqrt(shape[1])
    else:
        drawn = 1 + 0.1 * drawn if name.endswith(".weight") else 0.1 * drawn
    return torch.from_numpy(np.asarray(drawn, dtype=np.float32)).double()


def initial(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Replaces every parameter; buffers keep their start."""
    return {
        name: tensor
        if "running_" in name or "num_batches" in name or name.startswith("metrics.")
        else released_weight(released_name(name), tuple(tensor.shape))
        for name, tensor in state.items()
    }


def train(*overrides: str) -> tuple[list[list[float]], dict[str, Tensor]]:
    """Returns the losses by step and module, and the final state."""
    configuration = dataclasses.replace(config(*RECIPE, *overrides), schedule=TraceSchedule())
    blueprint = Blueprint(configuration)
    program = Program(TraceSource(), num_epochs=NUM_STEPS, carries_pixels=blueprint.method.exchange.input, tests=False)
    losses = [[0.0] * blueprint.partition.num_modules for _ in range(NUM_STEPS)]
    with make_executor(blueprint) as executor:
        executor.load_state(initial(executor.state()))
        for event in executor.fit(program):
            if isinstance(event, ModuleMetrics):
                assert event.loss is not None
                losses[event.epoch - 1][event.module] = event.loss
        return losses, executor.state()


def check(trace: dict[str, Any], losses: list[list[float]], state: dict[str, Tensor]) -> None:
    np.testing.assert_allclose(losses, trace["losses"], rtol=1e-9, atol=0)
    ours = {released_name(name): tensor for name, tensor in state.items() if tensor.is_floating_point()}
    for name, (total, norm) in trace["final"].items():
        np.testing.assert_allclose(
            [ours[name].sum(), ours[name].norm()], [total, norm], rtol=0, atol=1e-7, err_msg=name
        )


@pytest.mark.parametrize("case", CASES)
def test_sequential_computes_what_the_released_code_computes(case: str) -> None:
    check(json.loads((TRACES / f"{case}.json").read_text()), *train("executor=sequential", *CASES[case]))


@pytest.mark.parametrize("case", CASES)
def test_pipelined_computes_what_the_released_code_computes(ray_session: None, case: str) -> None:
    import sys

    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers need not find the tests
    check(json.loads((TRACES / f"{case}.json").read_text()), *train("executor.num_stages=2", *CASES[case]))
