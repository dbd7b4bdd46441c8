"""How near the pipeline comes to the bound of its slowest stage.

Efficiency is the pipeline's steady-state steps a second over what the same stages reach side by side, in the same
processes, when each loops on its own cached input with no communication; the slowest of them is the bound. Pipeline
and loop alternate, and the median of the ratios is reported.
"""

from collections.abc import Sequence

from isograd.bench.bench import BENCHES
from isograd.bench.rows import Kind, Row
from isograd.bench.workload import make_emulated, make_program, make_tiny_program, steady_s
from isograd.config.load import load
from isograd.engine.blueprint import Blueprint
from isograd.engine.program import Program
from isograd.executors.pipeline.pipeline import Pipeline
from isograd.executors.pipelined import make_pipeline
from isograd.planning.choose import resolved
from isograd.planning.emulated import EmulatedBuilder

BATCH_SIZE = 128
_METHODS = ("dgl", "infopro", "man", "hpff", "mlaan")
_REAL = {
    **{f"{name}, ResNet-32 K=8": (f"method={name}", "model=resnet32", "partition.num_modules=8") for name in _METHODS},
    "dgl, ViT-Ti K=4": (
        "method=dgl",
        "model=vit_ti",
        "partition.num_modules=4",
        "optimizer=adamw",
        "lr_schedule=cosine",
    ),
}
_EMULATED = ((4, 8, 100, 80), (4, 8, 30, 240), (4, 8, 10, 700), (8, 4, 30, 240))  # stages, MiB, ms a step, steps


@BENCHES.register("efficiency")
def bench(quick: bool, overrides: Sequence[str]) -> list[Row]:
    """Measures real and emulated cases; the overrides are the real ones'."""
    rows: list[Row] = []
    for case in _REAL:
        rows += _run_real(case, 1 if quick else 5, 8 if quick else 16, overrides)
    for num_stages, mib, step_ms, num_steps in _EMULATED:
        builders = [EmulatedBuilder(index, step_ms / 1e3, mib * 2**20) for index in range(num_stages)]
        program = make_tiny_program(num_steps // (6 if quick else 1))
        name = f"emulated S={num_stages} {mib} MiB {step_ms} ms"
        rows += _measure(name, make_emulated(builders), program, 1 if quick else 3, "emulated")
    return rows


def _run_real(case: str, num_rounds: int, num_steps: int, overrides: Sequence[str]) -> list[Row]:
    common = ("data=parquet", f"data.batch_size={BATCH_SIZE}", "executor.num_stages=2", "executor.spread=balanced")
    blueprint = Blueprint(resolved(load([*common, *_REAL[case], *overrides])))
    program = make_program(blueprint, num_steps)
    pipeline = make_pipeline(blueprint, held_bytes=program.source.held_bytes, records_steps=True)
    return _measure(f"{case} S=2 batch {BATCH_SIZE}", pipeline, program, num_rounds, "measured")


def _measure(case: str, pipeline: Pipeline, program: Program, num_rounds: int, kind: Kind) -> list[Row]:
    num_skipped = program.num_steps // 4
    with pipeline:
        rounds = [_run_round(pipeline, program, num_skipped) for _ in range(num_rounds)]
    ratios = [steps_per_s / bound for steps_per_s, bound in rounds]
    return [
        Row.median(case, "efficiency", ratios, "of bound", kind),
        Row.median(case, "pipelined", (steps_per_s for steps_per_s, _ in rounds), "steps/s", kind),
        Row.median(case, "slowest stage alone", (bound for _, bound in rounds), "steps/s", kind),
    ]


def _run_round(pipeline: Pipeline, program: Program, num_skipped: int) -> tuple[float, float]:
    """Returns the steps a second of the pipeline, and of the slowest of its stages in the loop beside it."""
    period_s = steady_s(pipeline.fit(program), num_skipped)
    return 1 / period_s, min(pipeline.loop(period_s * (program.num_steps - num_skipped) / 2))
