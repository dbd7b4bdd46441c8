"""Forecast beside fact: what `isograd plan` says the period is, and what runs then take.

Costs are measured anew for each case, right before the runs, since a machine that others use changes its speed by the
minute; the cache of measurements is not used. Runs are pipelines (or one stage, for sequential cases) on random images.
"""

import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from isograd.bench.rows import Row
from isograd.bench.side_by_side import steady_s
from isograd.cluster.config import ClusterConfig
from isograd.config.load import load
from isograd.data.synthetic import source
from isograd.engine.blueprint import Blueprint
from isograd.engine.program import Program
from isograd.executors.pipeline.pipeline import Pipeline, pipelined
from isograd.executors.pipelined import PipelinedExecutor
from isograd.local.action import Action, Work
from isograd.planning.choose import resolved
from isograd.planning.emulated import EmulatedBuilder
from isograd.planning.link import link
from isograd.planning.plan import forecast
from isograd.schedules.local import Coupling, local_learning
from isograd.schedules.simulation import Link, simulate
from isograd.system.provenance import hardware

_COMMON = ("data=parquet", "data.batch_size=64")
_RESNET, _VIT = ("model=resnet32",), ("model=vit_ti", "model.depth=6", "optimizer=adamw", "schedule=cosine")
_TWO, _ONE = ("executor.num_stages=2",), ("executor.num_stages=1",)
REAL = {
    "dgl, ResNet-32 K=8, S=1": (*_RESNET, *_ONE, "method=dgl", "partition.num_modules=8"),
    "dgl, ResNet-32 K=8, S=2": (*_RESNET, *_TWO, "method=dgl", "partition.num_modules=8"),
    "dgl, ResNet-32 balanced, S=2": (*_RESNET, *_TWO, "method=dgl", "partition=balanced"),
    "infopro, ResNet-32 K=4, S=2": (*_RESNET, *_TWO, "method=infopro", "partition.num_modules=4"),
    "man, ResNet-32 K=4, S=2": (*_RESNET, *_TWO, "method=man", "partition.num_modules=4"),
    "hpff, ResNet-32 K=4, S=1": (*_RESNET, *_ONE, "method=hpff", "partition.num_modules=4"),
    "hpff, ResNet-32 K=4, S=2": (*_RESNET, *_TWO, "method=hpff", "partition.num_modules=4"),
    "mlaan, ResNet-32 K=4, S=2": (*_RESNET, *_TWO, "method=mlaan", "partition.num_modules=4"),
    "dgl, ViT-Ti/6 K=4, S=1": (*_VIT, *_ONE, "method=dgl", "partition.num_modules=4"),
    "dgl, ViT-Ti/6 K=4, S=2": (*_VIT, *_TWO, "method=dgl", "partition.num_modules=4"),
    "dgl, ViT-Ti/6 balanced, S=2": (*_VIT, *_TWO, "method=dgl", "partition=balanced"),
}


@dataclass(frozen=True)
class Emulation:
    """Emulated stages of these seconds a step, which send activations of so many bytes."""

    stages_s: tuple[float, ...]
    num_bytes: int

    @property
    def name(self) -> str:
        """For the row."""
        times = " ".join(f"{1e3 * seconds:.0f}" for seconds in self.stages_s)
        return f"emulated S={len(self.stages_s)}, {times} ms, {self.num_bytes // 2**20} MiB"


EMULATED = (
    Emulation((0.1,) * 4, 8 * 2**20),
    Emulation((0.03,) * 4, 8 * 2**20),
    Emulation((0.05, 0.1, 0.07, 0.06), 8 * 2**20),
    Emulation((0.05,) * 8, 4 * 2**20),
)


@dataclass(frozen=True)
class Compared:
    """A forecast and what became of it, in seconds a batch."""

    case: str
    planned_s: float
    measured_s: float
    is_emulated: bool = False

    @property
    def error(self) -> float:
        """Share of the measured period by which the forecast misses it."""
        return abs(self.planned_s - self.measured_s) / self.measured_s


def bench(quick: bool, overrides: Sequence[str]) -> list[Row]:
    """Compares forecasts with runs.

    Args:
        quick: Three cases.
        overrides: Of the real cases' configuration.
    """
    with tempfile.TemporaryDirectory(prefix="isograd-plan-") as folder:
        cache = Path(folder)
        cases = list(REAL)[:2] if quick else list(REAL)
        found = [real(case, cache, overrides) for case in cases]
        found += [emulated(case, cache) for case in (EMULATED[:1] if quick else EMULATED)]
    return [row for compared in found for row in _rows(compared)] + _errors(found)


def real(case: str, cache: Path, overrides: Sequence[str]) -> Compared:
    """Forecasts one case, and runs it."""
    blueprint = Blueprint(resolved(load([*_COMMON, *REAL[case], *overrides]), cache=cache))
    planned_s = forecast(blueprint, cache).period_s
    num_steps = min(max(int(12 / planned_s), 16), 100)
    data = blueprint.config.data
    program = Program(
        source(num_steps, data.batch_size, data.shape, data.num_classes),
        num_epochs=1,
        evaluates=False,
        carries_inputs=blueprint.method.exchange.inputs,
    )
    with pipelined(blueprint, held_bytes=program.source.held_bytes, records_steps=True) as pipeline:
        measured_s = steady_s(pipeline.fit(program), num_steps // 4)
    return Compared(case, planned_s, measured_s)


def emulated(case: Emulation, cache: Path) -> Compared:
    """Forecasts emulated stages by their times and the measured link, and runs them."""
    config, num_stages = PipelinedExecutor.Config(device="cpu"), len(case.stages_s)
    planned_s = planned_emulated_s(case, link(config, ClusterConfig(), cache), config.queue_depth)
    builders = [EmulatedBuilder(index, seconds, case.num_bytes) for index, seconds in enumerate(case.stages_s)]
    num_steps = int(6 / max(case.stages_s))
    program = Program(source(num_steps, 1, (1, 8, 8)), num_epochs=1, evaluates=False)
    with ExitStack() as stack:
        pipeline = stack.enter_context(
            Pipeline(
                builders,
                config,
                ClusterConfig(num_cpus=num_stages),
                queued_bytes=4 * num_stages * case.num_bytes,
                records_steps=True,
            )
        )
        measured_s = steady_s(pipeline.fit(program), num_steps // 2)
    return Compared(case.name, planned_s, measured_s, is_emulated=True)


def planned_emulated_s(case: Emulation, link: Link, queue_depth: int) -> float:
    """Returns the period that the simulation gives."""
    stages = [range(index, index + 1) for index in range(len(case.stages_s))]
    schedule = local_learning([Coupling(output_bytes=case.num_bytes)] * len(stages), stages, 24, queue_depth)
    shares = {Work.FORWARD: 1 / 3, Work.BACKWARD: 2 / 3}

    def duration_s(action: Action) -> float:
        return shares.get(action.work, 0.0) * case.stages_s[action.module]

    return simulate(schedule, duration_s, link).period_s


def _rows(compared: Compared) -> list[Row]:
    kind, where = "emulated" if compared.is_emulated else "measured", hardware()
    return [
        Row(compared.case, "period, planned", 1e3 * compared.planned_s, "ms", "modelled", where),
        Row(compared.case, "period", 1e3 * compared.measured_s, "ms", kind, where),
        Row(compared.case, "error of the forecast", 100 * compared.error, "%", kind, where),
    ]


def _errors(found: Sequence[Compared]) -> list[Row]:
    errors = [100 * compared.error for compared in found]
    case, where = f"all {len(found)} cases", hardware()
    return [
        Row(case, "median error of the forecast", statistics.median(errors), "%", "measured", where),
        Row(case, "largest error of the forecast", max(errors), "%", "measured", where),
    ]
