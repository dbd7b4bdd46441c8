"""Forecast beside fact: what `isograd plan` says the period is, and what runs then take.

Costs are measured anew for each case, right before the runs, since a machine that others use changes its speed by the
minute; the cache of measurements is not used. Runs are pipelines (one stage for sequential cases) on random samples.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from isograd.bench.bench import BENCHES
from isograd.bench.rows import Kind, Row
from isograd.bench.workload import make_emulated, make_program, make_tiny_program, steady_s
from isograd.cluster.config import ClusterConfig
from isograd.config.load import load
from isograd.engine.blueprint import Blueprint
from isograd.executors.pipeline.config import PipelinedConfig
from isograd.executors.pipelined import make_pipeline
from isograd.local.action import Action, Work
from isograd.planning.choose import resolved
from isograd.planning.emulated import EmulatedBuilder
from isograd.planning.link import link
from isograd.planning.plan import forecast
from isograd.schedules.local import Coupling, local_learning
from isograd.schedules.simulation import Link, simulate

_ERROR = "error of the forecast"
_COMMON = ("data=parquet", "data.batch_size=64")
_RESNET, _VIT = ("model=resnet32",), ("model=vit_ti", "model.depth=6", "optimizer=adamw", "lr_schedule=cosine")
_TWO, _ONE = ("executor.num_stages=2",), ("executor.num_stages=1",)
_REAL = {
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
_EMULATED = (  # seconds a step of each stage, and MiB that it sends
    ((0.1,) * 4, 8),
    ((0.03,) * 4, 8),
    ((0.05, 0.1, 0.07, 0.06), 8),
    ((0.05,) * 8, 4),
)


@BENCHES.register("plan")
def bench(quick: bool, overrides: Sequence[str]) -> list[Row]:
    """Compares forecasts with runs, quickly of three cases; the overrides are the real ones'."""
    with tempfile.TemporaryDirectory(prefix="isograd-plan-") as folder:
        cache = Path(folder)
        rows = [row for case in list(_REAL)[: 2 if quick else None] for row in _try_real(case, cache, overrides)]
        for stages_s, mib in _EMULATED[: 1 if quick else None]:
            rows += _try_emulated(stages_s, mib, cache)
    errors = [row.value for row in rows if row.metric == _ERROR]
    case = f"all {len(errors)} cases"
    median = Row.median(case, f"median {_ERROR}", errors, "%")
    return [*rows, median, Row(case, f"largest {_ERROR}", max(errors), "%")]


def _try_real(case: str, cache: Path, overrides: Sequence[str]) -> list[Row]:
    blueprint = Blueprint(resolved(load([*_COMMON, *_REAL[case], *overrides]), cache=cache))
    planned_s = forecast(blueprint, cache).period_s
    num_steps = min(max(int(12 / planned_s), 16), 100)
    program = make_program(blueprint, num_steps)
    with make_pipeline(blueprint, held_bytes=program.source.held_bytes, records_steps=True) as pipeline:
        return _compare(case, planned_s, steady_s(pipeline.fit(program), num_steps // 4), "measured")


def _try_emulated(stages_s: Sequence[float], mib: int, cache: Path) -> list[Row]:
    """Forecasts emulated stages by their times and the measured link, and runs them."""
    config, num_bytes = PipelinedConfig(device="cpu"), mib * 2**20
    planned_s = _simulate_s(stages_s, num_bytes, link(config, ClusterConfig(), cache), config.queue_depth)
    builders = [EmulatedBuilder(index, stage_s, num_bytes) for index, stage_s in enumerate(stages_s)]
    num_steps = int(6 / max(stages_s))
    times = " ".join(f"{1e3 * stage_s:.0f}" for stage_s in stages_s)
    case = f"emulated S={len(stages_s)}, {times} ms, {mib} MiB"
    with make_emulated(builders) as pipeline:
        measured_s = steady_s(pipeline.fit(make_tiny_program(num_steps)), num_steps // 2)
    return _compare(case, planned_s, measured_s, "emulated")


def _simulate_s(stages_s: Sequence[float], num_bytes: int, link: Link, queue_depth: int) -> float:
    """Returns the period that the simulation gives."""
    stages = [range(index, index + 1) for index in range(len(stages_s))]
    schedule = local_learning([Coupling(output_bytes=num_bytes)] * len(stages), stages, 24, queue_depth)
    shares = {Work.FORWARD: 1 / 3, Work.BACKWARD: 2 / 3}

    def duration_s(action: Action) -> float:
        return shares.get(action.work, 0.0) * stages_s[action.module]

    return simulate(schedule, duration_s, link).period_s


def _compare(case: str, planned_s: float, measured_s: float, kind: Kind) -> list[Row]:
    return [
        Row(case, "period, planned", 1e3 * planned_s, "ms", "modelled"),
        Row(case, "period", 1e3 * measured_s, "ms", kind),
        Row(case, _ERROR, 100 * abs(planned_s - measured_s) / measured_s, "%", kind),
    ]
