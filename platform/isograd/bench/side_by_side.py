"""Schedules that train the same thing, in turns in one Ray session, so that the machine's changes meet all of them."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from isograd.bench.rows import Kind, Row
from isograd.engine.program import Program
from isograd.events.events import Event, StageReport
from isograd.executors.microbatch.pipeline import MicrobatchPipeline
from isograd.executors.microbatch.plan import PiecePlan
from isograd.executors.pipeline.pipeline import Pipeline
from isograd.system.provenance import hardware

LOCAL, SEQUENTIAL, END_TO_END = "PPLL", "sequential local learning", "end to end, one device"


@dataclass(frozen=True)
class Contender:
    """One schedule.

    Attributes:
        name: In tables.
        period_s: Runs it for some batches; returns the seconds from batch to batch once it is steady.
        num_microbatches: M; 0 where batches are not split.
    """

    name: str
    period_s: Callable[[], float]
    num_microbatches: int = 0


def of_pipeline(name: str, pipeline: Pipeline, program: Program) -> Contender:
    """Returns the contender that a pipeline of local modules is; with one stage, it is sequential."""
    return Contender(name, lambda: steady_s(pipeline.fit(program), program.num_steps // 4))


def of_microbatches(pipeline: MicrobatchPipeline, plan: PiecePlan, program: Program) -> Contender:
    """Returns the contender that one schedule of an end-to-end pipeline is."""

    def period_s() -> float:
        pipeline.arrange(plan)
        return steady_s(pipeline.fit(program), 1)

    chunks = f", V={plan.chunks}" if plan.chunks > 1 else ""
    return Contender(f"{plan.schedule}, M={plan.num_microbatches}{chunks}", period_s, plan.num_microbatches)


def steady_s(events: Iterable[Event], num_skipped: int) -> float:
    """Returns the seconds from batch to batch at the stage that ends last, without the first batches and without those
    that other stages no longer work beside."""
    reports = [event for event in events if isinstance(event, StageReport)]
    horizon_s = min(report.step_ends_s[-1] for report in reports)
    last = max((report.step_ends_s for report in reports), key=lambda ends_s: ends_s[-1])
    steady = [end_s for end_s in last[num_skipped:] if end_s <= horizon_s]
    ends_s = steady if len(steady) > 1 else last[num_skipped:]
    return (ends_s[-1] - ends_s[0]) / (len(ends_s) - 1)


def raced(case: str, contenders: Sequence[Contender], num_rounds: int, kind: Kind) -> list[Row]:
    """Runs all contenders in turns, every other time in reverse order; returns their figures and the ratios.

    Ratios are of periods within one round. "Best traditional" is whichever schedule was fastest in that round.

    Args:
        case: Name of what is trained.
        contenders: :data:`LOCAL` and :data:`SEQUENTIAL` among them.
        num_rounds: How often.
        kind: ``measured`` or ``emulated``.
    """
    rounds: list[dict[str, float]] = []
    for number in range(num_rounds):
        order = contenders if number % 2 == 0 else list(reversed(contenders))
        rounds.append({contender.name: contender.period_s() for contender in order})
    rows = [
        _row(case, f"period, {contender.name}", [1e3 * found[contender.name] for found in rounds], "ms", kind)
        for contender in contenders
    ]
    rows.append(
        _row(case, f"{LOCAL} over sequential", [found[SEQUENTIAL] / found[LOCAL] for found in rounds], "x", kind)
    )
    for label, names in _groups(contenders):
        ratios = [min(found[name] for name in names) / found[LOCAL] for found in rounds]
        rows.append(_row(case, f"{LOCAL} over best traditional, {label}", ratios, "x", kind))
    return rows


def _groups(contenders: Sequence[Contender]) -> list[tuple[str, list[str]]]:
    counts = sorted({contender.num_microbatches for contender in contenders} - {0})
    groups = [(f"M={count}", [item.name for item in contenders if item.num_microbatches == count]) for count in counts]
    return [*groups, ("any M", [item.name for item in contenders if item.num_microbatches])]


def _row(case: str, metric: str, values: Sequence[float], unit: str, kind: Kind) -> Row:
    return Row(case, metric, statistics.median(values), unit, kind, hardware())
