"""What grows with the number of stages and of batches, and what must not: period, the driver's work, memory.

Emulated devices, equal stages. The driver's processor time is that of all its threads; starting and ending a run costs
some once, so a long run less a short one counts. Python's full collections are kept out of it: one costs as much as all
that was ever imported, once in minutes, and would fall on one run or another. A stage's memory is what belongs to it
alone: the object store's pages are shared by all, and every process that has read them shows them as its own.
"""

import gc
import time
from collections.abc import Sequence
from pathlib import Path

from isograd.bench.bench import BENCHES
from isograd.bench.rows import Row
from isograd.bench.workload import collect_reports, make_emulated, make_tiny_program, steady_s
from isograd.engine.config import ExecutorConfig
from isograd.events.events import StageReport
from isograd.executors.pipeline.pipeline import Pipeline, event_interval_s
from isograd.planning.emulated import EmulatedBuilder

STAGES = (2, 4, 8, 16)
STEP_S, ACTIVATION_BYTES = 0.1, 4 * 2**20
_NUM_BATCHES, _LONGER = 60, 4


@BENCHES.register("growth")
def bench(quick: bool, overrides: Sequence[str]) -> list[Row]:
    """Measures pipelines of 2 to 16 stages, quickly of up to 4; no overrides are read."""
    return [row for num_stages in STAGES[: 2 if quick else None] for row in _measure(num_stages)]


def _measure(num_stages: int) -> list[Row]:
    config = ExecutorConfig(device="cpu")
    builders = [
        EmulatedBuilder(index, STEP_S, ACTIVATION_BYTES, event_interval_s=event_interval_s(config, index, num_stages))
        for index in range(num_stages)
    ]
    with make_emulated(builders) as pipeline:
        _run(pipeline, _NUM_BATCHES // 2)  # touches memory for the first time
        gc.freeze()
        short, short_s = _run(pipeline, _NUM_BATCHES)
        before = _measure_private_bytes(pipeline)
        long, long_s = _run(pipeline, _LONGER * _NUM_BATCHES)
        gc.unfreeze()
        more = [now - then for then, now in zip(before, _measure_private_bytes(pipeline), strict=True)]
    driver_s = (long_s - short_s) / ((_LONGER - 1) * _NUM_BATCHES)
    period_s = steady_s(short, max(num_stages, _NUM_BATCHES // 4))
    case = f"equal stages of {STEP_S * 1e3:.0f} ms, {ACTIVATION_BYTES // 2**20} MiB, S={num_stages}"
    memory = f"memory of a stage, {_LONGER} times as many batches"
    return [
        Row(case, "period", 1e3 * period_s, "ms", "emulated"),
        Row(case, "driver's processor time a batch", 1e3 * driver_s, "ms", "emulated"),
        Row(case, memory, max(more) / 2**20, "MiB more", "emulated"),
        Row.median(case, "utilisation, median stage", (report.utilisation for report in long), "share", "emulated"),
    ]


def _run(pipeline: Pipeline, num_batches: int) -> tuple[list[StageReport], float]:
    program = make_tiny_program(num_batches)
    before_s = time.process_time()
    reports = collect_reports(pipeline.fit(program))
    return reports, time.process_time() - before_s


def _measure_private_bytes(pipeline: Pipeline) -> list[int]:
    """Returns the resident memory of each stage's process that no other process shares."""
    statuses = [Path(f"/proc/{process_id}/status").read_text() for process_id in pipeline.process_ids()]
    return [1024 * int(status.partition("RssAnon:")[2].split()[0]) for status in statuses]
