"""Schedules that train the same thing, in turns in one Ray session, so that the machine's changes meet all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from isograd.bench.rows import Kind, Row
from isograd.bench.workload import steady_s
from isograd.engine.program import Program
from isograd.executors.microbatch.executor import MicrobatchPipeline
from isograd.executors.microbatch.plan import PiecePlan
from isograd.executors.pipelined import Pipeline

LOCAL, SEQUENTIAL, END_TO_END = "PPLL", "sequential local learning", "end to end, one device"


@dataclass(frozen=True)
class Racer:
    """One schedule.

    Attributes:
        name: In tables.
        period_s: Runs it for some batches; returns the seconds from batch to batch once it is steady.
        num_microbatches: M; 0 where batches are not split.
    """

    name: str
    period_s: Callable[[], float]
    num_microbatches: int = 0


def enter_pipeline(name: str, pipeline: Pipeline, program: Program) -> Racer:
    """Returns the contender that a pipeline of local modules is; with one stage, it is sequential."""
    return Racer(name, lambda: steady_s(pipeline.fit(program), program.num_steps // 4))


def enter_microbatches(pipeline: MicrobatchPipeline, plan: PiecePlan, program: Program) -> Racer:
    """Returns the contender that one schedule of an end-to-end pipeline is."""

    def period_s() -> float:
        pipeline.arrange(plan)
        return steady_s(pipeline.fit(program), 1)

    return Racer(name_plan(plan), period_s, plan.num_microbatches)


def name_plan(plan: PiecePlan) -> str:
    """Returns how a traditional schedule is called in tables."""
    return f"{plan.schedule}, M={plan.num_microbatches}" + (f", V={plan.chunks}" if plan.chunks > 1 else "")


def race(case: str, contenders: Sequence[Racer], num_rounds: int, kind: Kind) -> list[Row]:
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
    names = [contender.name for contender in contenders]
    rows = [Row.median(case, f"period, {name}", (1e3 * times[name] for times in rounds), "ms", kind) for name in names]
    ratios = [times[SEQUENTIAL] / times[LOCAL] for times in rounds]
    rows.append(Row.median(case, f"{LOCAL} over sequential", ratios, "x", kind))
    for label, group in _group(contenders):
        ratios = [min(times[name] for name in group) / times[LOCAL] for times in rounds]
        rows.append(Row.median(case, f"{LOCAL} over best traditional, {label}", ratios, "x", kind))
    return rows


def _group(contenders: Sequence[Racer]) -> list[tuple[str, list[str]]]:
    counts = sorted({contender.num_microbatches for contender in contenders} - {0})
    groups = [(f"M={count}", [item.name for item in contenders if item.num_microbatches == count]) for count in counts]
    return [*groups, ("any M", [item.name for item in contenders if item.num_microbatches])]
