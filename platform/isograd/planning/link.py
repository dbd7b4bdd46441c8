"""What a link between two stages can do: its latency and its bandwidth, measured with the pipeline's own channel."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from isograd.cluster.config import ClusterConfig
from isograd.cluster.loopback import prefer_loopback
from isograd.data.synthetic import tiny_source
from isograd.engine.config import ExecutorConfig
from isograd.engine.program import Program
from isograd.events.events import StageTimeline
from isograd.executors.pipeline.config import PipelinedConfig
from isograd.local.action import Span, Work
from isograd.planning.cache import kept
from isograd.planning.emulated import EmulatedBuilder
from isograd.schedules.simulation import Link

if TYPE_CHECKING:
    from isograd.executors.pipeline.pipeline import Pipeline

_SMALL_BYTES, _LARGE_BYTES = 2**12, 2**23
_STEPS_S = (0.02, 0.0)  # of the sender and of the receiver, which is always ready
_NUM_STEPS, _SKIPPED = 60, 30  # the first messages touch memory for the first time


def link(config: ExecutorConfig, cluster: ClusterConfig, cache: Path | None = None) -> Link:
    """Returns the link that stages have there, measured once and kept.

    Args:
        config: Of the stages: devices; and channel and queues, where they are a pipeline's.
        cluster: Where they are to run; a private one is started and ended.
        cache: Folder of measurements; None: the user's.

    Raises:
        IsogradError: The cluster does not answer, has no room, or the channel cannot connect the stages.
    """
    options = PipelinedConfig.of(config)
    key = {name: getattr(options, name) for name in ("device", "gpus_per_stage", "channel", "queue_depth")}
    record = kept("link", {**key, "address": cluster.address}, lambda: _measured(options, cluster), cache)
    return Link(record["latency_s"], record["bytes_per_s"])


def _measured(config: PipelinedConfig, cluster: ClusterConfig) -> dict[str, float]:
    """Sends small and large messages from a stage that takes its time to one that waits for them."""
    prefer_loopback()
    from isograd.executors.pipeline.pipeline import Pipeline

    with Pipeline(_builders(_SMALL_BYTES), config, cluster, queued_bytes=8 * _LARGE_BYTES) as pipeline:
        small_s = _transfer_s(_timelines(pipeline))
        pipeline.rebuild(_builders(_LARGE_BYTES))
        large_s = _transfer_s(_timelines(pipeline))
    return {"latency_s": small_s, "bytes_per_s": (_LARGE_BYTES - _SMALL_BYTES) / max(large_s - small_s, 1e-9)}


def _builders(num_bytes: int) -> list[EmulatedBuilder]:
    return [EmulatedBuilder(index, step_s, num_bytes, timeline=_NUM_STEPS) for index, step_s in enumerate(_STEPS_S)]


def _timelines(pipeline: "Pipeline") -> list[Sequence[Span]]:
    """Runs both stages; returns what each did."""
    program = Program(tiny_source(_NUM_STEPS), num_epochs=1, evaluates=False)
    timelines = [event for event in pipeline.fit(program) if isinstance(event, StageTimeline)]
    return [event.spans for event in sorted(timelines, key=lambda event: event.stage)]


def _transfer_s(stages: Sequence[Sequence[Span]]) -> float:
    """The median time from the beginning of a send to the end of the wait for what was sent."""
    sent = {span.action.step: span.start_s for span in stages[0] if span.action.work is Work.SEND}
    came = {span.action.step: span.end_s for span in stages[1] if span.action.work is Work.RECEIVE}
    return median(came[step] - sent[step] for step in sorted(sent.keys() & came.keys())[_SKIPPED:])
