"""How near the pipeline comes to the bound of its slowest stage.

Efficiency is the pipeline's steady-state steps a second over what the same stages reach side by side, in the same
processes, when each loops on its own cached input with no communication; the slowest of them is the bound. Pipeline
and loop alternate, and the median of the ratios is reported.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from isograd.bench.rows import Kind, Row
from isograd.bench.side_by_side import steady_s
from isograd.cluster.config import ClusterConfig
from isograd.config.load import load
from isograd.data.synthetic import source
from isograd.engine.blueprint import Blueprint
from isograd.engine.program import Program
from isograd.executors.pipeline.pipeline import Pipeline, pipelined
from isograd.executors.pipelined import PipelinedExecutor
from isograd.planning.choose import resolved
from isograd.planning.emulated import EmulatedBuilder
from isograd.system.provenance import hardware

BATCH_SIZE = 128
_METHODS = ("dgl", "infopro", "man", "hpff", "mlaan")
_REAL = {
    **{f"{name}, ResNet-32 K=8": (f"method={name}", "model=resnet32", "partition.num_modules=8") for name in _METHODS},
    "dgl, ViT-Ti K=4": ("method=dgl", "model=vit_ti", "partition.num_modules=4", "optimizer=adamw", "schedule=cosine"),
}


@dataclass(frozen=True)
class Emulation:
    """A case of emulated devices. ``step_ms`` a stage, ``activation_mib`` a message."""

    num_stages: int
    activation_mib: int
    step_ms: int
    num_steps: int

    @property
    def name(self) -> str:
        """For the row."""
        return f"emulated S={self.num_stages} {self.activation_mib} MiB {self.step_ms} ms"


EMULATIONS = (Emulation(4, 8, 100, 80), Emulation(4, 8, 30, 240), Emulation(4, 8, 10, 700), Emulation(8, 4, 30, 240))


@dataclass(frozen=True)
class Round:
    """One run of the pipeline and one of the loop beside it, in steps a second."""

    pipelined: float
    bound: float

    @property
    def efficiency(self) -> float:
        """Share of the bound that the pipeline reaches."""
        return self.pipelined / self.bound


def bench(quick: bool, overrides: Sequence[str]) -> list[Row]:
    """Measures real and emulated cases.

    Args:
        quick: Fewer steps and one round.
        overrides: Of the real cases' configuration.
    """
    rows: list[Row] = []
    for case in _REAL:
        rows += _real(case, 1 if quick else 5, 8 if quick else 16, overrides)
    for emulation in EMULATIONS:
        rows += _emulated(emulation, 1 if quick else 3, shorten=6 if quick else 1)
    return rows


def _real(case: str, num_rounds: int, num_steps: int, overrides: Sequence[str]) -> list[Row]:
    common = ("data=parquet", f"data.batch_size={BATCH_SIZE}", "executor.num_stages=2", "executor.spread=balanced")
    blueprint = Blueprint(resolved(load([*common, *_REAL[case], *overrides])))
    carries_inputs = blueprint.method.exchange.inputs
    program = Program(source(num_steps, BATCH_SIZE), num_epochs=1, evaluates=False, carries_inputs=carries_inputs)
    pipeline = pipelined(blueprint, held_bytes=program.source.held_bytes, records_steps=True)
    with pipeline:
        rounds = [_round(pipeline, program, num_steps // 4) for _ in range(num_rounds)]
    return _rows(f"{case} S=2 batch {BATCH_SIZE}", rounds, "measured")


def _emulated(case: Emulation, num_rounds: int, shorten: int) -> list[Row]:
    num_steps = case.num_steps // shorten
    activation_bytes = case.activation_mib * 2**20
    builders = [EmulatedBuilder(index, case.step_ms / 1e3, activation_bytes) for index in range(case.num_stages)]
    cluster = ClusterConfig(num_cpus=case.num_stages)
    pipeline = Pipeline(
        builders,
        PipelinedExecutor.Config(device="cpu"),
        cluster,
        queued_bytes=4 * case.num_stages * activation_bytes,
        records_steps=True,
    )
    program = Program(source(num_steps, 1, (1, 8, 8)), num_epochs=1, evaluates=False)
    with pipeline:
        rounds = [_round(pipeline, program, num_steps // 4) for _ in range(num_rounds)]
    return _rows(case.name, rounds, "emulated")


def _round(pipeline: Pipeline, program: Program, num_skipped: int) -> Round:
    period_s = steady_s(pipeline.fit(program), num_skipped)
    return Round(1 / period_s, min(pipeline.loop(period_s * (program.num_steps - num_skipped) / 2)))


def _rows(case: str, rounds: Sequence[Round], kind: Kind) -> list[Row]:
    where = hardware()
    return [
        Row(case, "efficiency", statistics.median(item.efficiency for item in rounds), "of bound", kind, where),
        Row(case, "pipelined", statistics.median(item.pipelined for item in rounds), "steps/s", kind, where),
        Row(case, "slowest stage alone", statistics.median(item.bound for item in rounds), "steps/s", kind, where),
    ]
