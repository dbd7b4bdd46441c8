"""Our methods compute what the authors' released code computes, number for number.

Traces hold the losses of five training steps and the final tensors (sum and norm), in float64. Weights are rebuilt by
name, batches by number; see ``released_weight`` and ``TraceSource``.
"""

import dataclasses
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from isograd.data.batch import Batch
from isograd.engine.blueprint import Blueprint
from isograd.engine.program import Program
from isograd.events.events import EpochRecord
from isograd.executors.hosts import Hosts
from isograd.local.optimizer import Place
from isograd.partition.partition import Partition
from tests.runs import config, opened

TRACES = Path(__file__).parents[1] / "data" / "traces"
NUM_STEPS = 5
STATE = ("backbone.", "auxiliary.", "cascade.")
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
    "man_r32_k8": (
        *("method=man", "method.base=infopro", "partition.num_modules=8", "partition.table=man", "method.decay=0.9"),
        *("method.coefficients=stage", "method.lambda1=[5,0.2]", "method.lambda2=[0.5,0.5]"),
    ),
    "hpff_r32_k4": (
        *("method=hpff", "method.base=infopro", "partition.num_modules=4", "partition.table=hpff"),
        *("method.patches=quadrants", "method.lambda1=[5,0.2]", "method.lambda2=[0.5,0.5]"),
    ),
    "mlaan_r32_k8": ("method=mlaan", "partition.num_modules=8", "method.ema=last", "method.decay=0.9"),
    "auglocal_r32_k16_d3": (
        *("method=auglocal", "method.depth=3", "method.merges_last=true"),
        *("partition.num_modules=16", "partition.table=auglocal"),
    ),
    "dgl_manpp_r32_k8": (
        *("method=man", "method.base=dgl", "method.auxiliary=manpp", "method.fusion=scaled", "method.decay=0.9"),
        *("partition.num_modules=8", "partition.table=manpp"),
    ),
    "dgl_r32_k16": ("method=dgl", "method.auxiliary=auglocal", "partition.num_modules=16"),
}


@dataclasses.dataclass
class TraceSchedule:
    """0.01 (1 - 0.1 t), one step an epoch."""

    by_step: ClassVar[bool] = False

    name: str = "trace"

    def lr(self, peak: float, place: Place) -> float:
        return peak * (1 - 0.1 * (place.epoch - 1))


class TraceSource:
    """One batch of 8 an epoch, drawn by the traces' rule."""

    num_train, num_valid, num_test, batch_size, test_batch_size, held_bytes = 8, 0, 0, 8, 8, 0

    def on(self, device: torch.device) -> "TraceSource":
        return self

    def train(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        generator = np.random.Generator(np.random.PCG64(1000 + epoch - 1))
        pixels = generator.integers(0, 256, (8, 3, 32, 32))
        targets = generator.integers(0, 10, (8,))
        image, label = torch.from_numpy(pixels).to(torch.uint8), torch.from_numpy(targets)
        yield Batch({"image": image}, {"label": label}, torch.arange(8), 0)

    def valid(self) -> Iterator[Batch]:
        yield from ()

    def shard(self, rank: int, world: int) -> "TraceSource":
        return self

    def test(self) -> Iterator[Batch]:
        yield from ()


class Names:
    """Maps our names of a case's tensors to the released code's."""

    def __init__(self, case: str, partition: Partition) -> None:
        self._method = case.split("_r32")[0]
        self._ends = [partition.units(index)[-1].name for index in range(partition.num_modules)]
        self._units = [unit.name for unit in partition.backbone.units]

    def __call__(self, name: str) -> str:
        level, _, rest = name.partition(".")
        if level == "backbone":
            return self._backbone(rest.removeprefix("stem.").removeprefix("head."))
        end = next(end for end in self._ends if rest.startswith(f"{end}."))
        return self._auxiliary(level, end, rest.removeprefix(f"{end}."))

    def _backbone(self, name: str) -> str:
        has_fc64 = self._method in ("man", "hpff", "mlaan", "dgl_manpp")
        return name.replace("fc.", "fc64.") if has_fc64 and name.startswith("fc.") else name

    def _auxiliary(self, level: str, end: str, name: str) -> str:
        index, block = self._ends.index(end), _key(end)
        if self._method == "man":
            return _man(name, f"LB.{index}", f"EMA_Net.{index}", "", self._next_key(end))
        if self._method == "dgl_manpp":
            if end == "stem":
                return _man(name, "LB_first", "EMA_first", "ema_s_first", "0_0")
            return _man(name, f"LB.{index - 1}", f"EMA_Net.{index - 1}", f"ema_s.{index - 1}", self._next_key(end))
        name = name.removeprefix("objective.")
        if self._method == "hpff":
            return _hpff("net" if level == "auxiliary" else "aux", block, name)
        if self._method == "mlaan":
            return _mlaan(name, block, index) if level == "cascade" else f"net_classifier_{block}.{_fc(name)}"
        return _infopro(name, block)

    def _next_key(self, end: str) -> str:
        return _key(self._units[self._units.index(end) + 1])


def _key(unit: str) -> str:
    return "0_0" if unit == "stem" else unit.removeprefix("layer").replace(".", "_")


def _infopro(name: str, block: str) -> str:
    name = name.removeprefix("target.").removeprefix("reconstruction.")
    if name.startswith("decoder."):
        return f"decoder_{block}.{name}"
    return f"aux_classifier_{block}.{name}"


def _man(name: str, learnable: str, ema: str, scale: str, block: str) -> str:
    if name == "network.scale":
        return scale
    if name.startswith("objective."):
        name = name.removeprefix("objective.")
        return _infopro(name.replace("head.1.", "head.") if scale else name, block)
    return name.replace("network.learnable", learnable).replace("network.ema.block", ema)


def _hpff(level: str, block: str, name: str) -> str:
    name = name.removeprefix("target.").removeprefix("reconstruction.")
    if name.startswith("decoders."):
        return f"{level}_decoder_{block}.{name}"
    return f"{level}_classifier_{block}.{name}"


def _mlaan(name: str, block: str, index: int) -> str:
    name = name.removeprefix("objective.")
    if name.startswith("head."):
        return f"aux_classifier_{block}_{index}.{_fc(name)}"
    name = name.replace("network.average.block", f"EMA_Net.{index}.0")
    return name.replace("network.learnable", f"Aug_Net.{index}")


def _fc(name: str) -> str:
    return f"fc.{name.rpartition('.')[2]}"


def released_weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """Draws a parameter by the traces' rule."""
    drawn = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(shape)
    if len(shape) == 4:
        drawn = drawn * np.sqrt(2 / (shape[2] * shape[3] * shape[0]))
    elif len(shape) == 2:
        drawn = drawn / np.sqrt(shape[1])
    else:
        drawn = 1 + 0.1 * drawn if name.endswith(".weight") or not shape else 0.1 * drawn
    return torch.from_numpy(np.asarray(drawn, dtype=np.float32)).double()


def initial(state: dict[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Replaces every parameter; buffers keep their start."""
    return {
        name: tensor
        if "running_" in name or "num_batches" in name or name.startswith("metrics.")
        else released_weight(names(name), tuple(tensor.shape))
        for name, tensor in state.items()
    }


def train(case: str, *overrides: str, actors: Hosts | None = None) -> tuple[list[list[float]], dict[str, Tensor]]:
    """Returns the losses by step and module that has any, and the final state by released names."""
    configuration = dataclasses.replace(config(*RECIPE, *CASES[case], *overrides), lr_schedule=TraceSchedule())
    blueprint = Blueprint(configuration)
    program = Program(
        TraceSource(), num_epochs=NUM_STEPS, carries_inputs=blueprint.method.exchange.inputs, evaluates=False
    )
    names = Names(case, blueprint.partition)
    losses: list[dict[int, float]] = [{} for _ in range(NUM_STEPS)]
    with opened(blueprint, actors) as executor:
        executor.load_state(initial(executor.state(), names))
        for event in executor.fit(program):
            if isinstance(event, EpochRecord) and event.loss is not None:
                losses[event.epoch - 1][event.module] = event.loss
        state = {name: tensor for name, tensor in executor.state().items() if name.startswith(STATE)}
        return [[row[key] for key in sorted(row)] for row in losses], {names(key): state[key] for key in state}


def check(trace: dict[str, Any], losses: list[list[float]], state: dict[str, Tensor]) -> None:
    np.testing.assert_allclose(losses, trace["losses"], rtol=1e-9, atol=0)
    ours = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    assert set(ours) == set(trace["final"])
    for name, (total, norm) in trace["final"].items():
        np.testing.assert_allclose(
            [ours[name].sum(), ours[name].norm()], [total, norm], rtol=0, atol=1e-7, err_msg=name
        )


@pytest.mark.parametrize("case", CASES)
def test_sequential_computes_what_the_released_code_computes(case: str) -> None:
    check(json.loads((TRACES / f"{case}.json").read_text()), *train(case, "executor=sequential"))


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_pipelined_computes_what_the_released_code_computes(actors: Hosts, case: str) -> None:
    import sys

    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers need not find the tests
    check(json.loads((TRACES / f"{case}.json").read_text()), *train(case, "executor.num_stages=2", actors=actors))
