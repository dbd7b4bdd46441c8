"""What grows with the number of stages and of batches, and what must not: period, the driver's work, memory.

Emulated devices, equal stages. The driver's processor time is that of all its threads; starting and ending a run costs
some once, so a long run less a short one counts. Python's full collections are kept out of it: one costs as much as all
that was ever imported, once in minutes, and would fall on one run or another. A stage's memory is what belongs to it
alone: the object store's pages are shared by all, and every process that has read them shows them as its own.
"""

import gc
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from isograd.bench.rows import Row
from isograd.bench.side_by_side import steady_s
from isograd.cluster.config import ClusterConfig
from isograd.data.synthetic import source
from isograd.engine.program import Program
from isograd.events.events import StageReport
from isograd.executors.pipeline.pipeline import Pipeline, event_interval_s
from isograd.executors.pipelined import PipelinedExecutor
from isograd.planning.emulated import EmulatedBuilder
from isograd.system.provenance import hardware

STAGES = (2, 4, 8, 16)
STEP_S, ACTIVATION_BYTES = 0.1, 4 * 2**20
_NUM_BATCHES, _LONGER = 60, 4


def bench(quick: bool, overrides: Sequence[str]) -> list[Row]:
    """Measures pipelines of 2 to 16 stages.

    Args:
        quick: Up to 4 stages.
        overrides: None are read.
    """
    return [row for num_stages in STAGES[: 2 if quick else None] for row in _grown(num_stages)]


def _grown(num_stages: int) -> list[Row]:
    config = PipelinedExecutor.Config(device="cpu")
    builders = [
        EmulatedBuilder(index, STEP_S, ACTIVATION_BYTES, event_interval_s=event_interval_s(config, index, num_stages))
        for index in range(num_stages)
    ]
    cluster = ClusterConfig(num_cpus=num_stages)
    queued_bytes = 4 * num_stages * ACTIVATION_BYTES
    with Pipeline(builders, config, cluster, queued_bytes=queued_bytes, records_steps=True) as pipeline:
        _run(pipeline, _NUM_BATCHES // 2)  # touches memory for the first time
        gc.freeze()
        short, short_s = _run(pipeline, _NUM_BATCHES)
        before = _private_bytes(pipeline)
        long, long_s = _run(pipeline, _LONGER * _NUM_BATCHES)
        gc.unfreeze()
        more = [now - then for then, now in zip(before, _private_bytes(pipeline), strict=True)]
    driver_s = (long_s - short_s) / ((_LONGER - 1) * _NUM_BATCHES)
    case = f"equal stages of {STEP_S * 1e3:.0f} ms, {ACTIVATION_BYTES // 2**20} MiB, S={num_stages}"
    return [
        _row(case, "period", 1e3 * steady_s(short, max(num_stages, _NUM_BATCHES // 4)), "ms"),
        _row(case, "driver's processor time a batch", 1e3 * driver_s, "ms"),
        _row(case, f"memory of a stage, {_LONGER} times as many batches", max(more) / 2**20, "MiB more"),
        _row(case, "utilisation, median stage", statistics.median(report.utilisation for report in long), "share"),
    ]


def _run(pipeline: Pipeline, num_batches: int) -> tuple[list[StageReport], float]:
    program = Program(source(num_batches, 1, (1, 8, 8)), num_epochs=1, evaluates=False)
    before_s = time.process_time()
    reports = [event for event in pipeline.fit(program) if isinstance(event, StageReport)]
    return sorted(reports, key=lambda report: report.stage), time.process_time() - before_s


def _private_bytes(pipeline: Pipeline) -> list[int]:
    """Returns the resident memory of each stage's process that no other process shares."""
    return [_resident_anonymous(process_id) for process_id in pipeline.process_ids()]


def _resident_anonymous(process_id: int) -> int:
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    raise AssertionError("the kernel does not say what is resident")


def _row(case: str, metric: str, value: float, unit: str) -> Row:
    return Row(case, metric, value, unit, "emulated", hardware())
