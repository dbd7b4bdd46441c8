"""A pipeline that moves local modules between its stages where that makes it faster. Results do not change by a bit."""

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from torch import Tensor

from isograd.engine.blueprint import Blueprint
from isograd.engine.program import Program
from isograd.events.events import Event, Rebalanced, StageTimeline
from isograd.executors.pipeline.pipeline import Pipeline, stage_builders
from isograd.partition.balance import Assignment, Limits, Piece, balanced
from isograd.schedules.timeline import typical_s

WORTHWHILE = 1.10  # how many times faster the slowest stage must become
RECORDED_STEPS = 20


class RebalancingPipeline:
    """PPLL whose stages are looked at after 1, 2, 4, 8, ... epochs.

    The pipeline drains where it is looked at. Modules then move if the measured times of all of them say that the
    slowest stage would be more than 10 % faster with other neighbours.

    Args:
        blueprint: Of the local modules; its stages record at least :data:`RECORDED_STEPS` steps.
        pipeline: Of them, not yet open.
        stages: Which of them each stage hosts at first.
        speeds: Of the stages' devices, relative to each other.
    """

    def __init__(
        self, blueprint: Blueprint, pipeline: Pipeline, stages: Sequence[range], speeds: tuple[float, ...]
    ) -> None:
        self._blueprint, self._pipeline, self.stages, self._speeds = blueprint, pipeline, stages, speeds

    def __enter__(self) -> Self:
        self._pipeline.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipeline.__exit__(kind, error, trace)

    def fit(self, program: Program) -> Iterator[Event]:
        """Trains; yields the events of all stages as they come, and one for each move."""
        for part in program.parts():
            timelines: list[StageTimeline] = []
            for event in self._pipeline.fit(part):
                if isinstance(event, StageTimeline):
                    timelines.append(event)
                yield event
            if part.last_epoch < program.last_epoch:
                yield from self._rebalance(timelines, part.last_epoch)

    def evaluate(self, program: Program) -> Iterator[Event]:
        """Runs the test split through the pipeline."""
        return self._pipeline.evaluate(program)

    def state(self) -> dict[str, Tensor]:
        """Returns the state of all modules, gathered from the stages."""
        return self._pipeline.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Hands each stage the state of its modules. Raises CheckpointError; nothing is loaded then."""
        self._pipeline.load_state(state)

    def process_ids(self) -> list[int]:
        """Returns the process of each stage."""
        return self._pipeline.process_ids()

    def _rebalance(self, timelines: Sequence[StageTimeline], epoch: int) -> Iterator[Event]:
        pieces = _pieces(timelines, self.stages, self._speeds)
        if pieces is None:
            return
        now_s = slowest_s(pieces, self.stages, self._speeds)
        best = balanced(pieces, len(pieces), Limits(self._speeds))
        if now_s > WORTHWHILE * best.period_s:
            yield self._move(best, now_s, epoch)

    def _move(self, best: Assignment, now_s: float, epoch: int) -> Rebalanced:
        self._pipeline.move(stage_builders(self._blueprint, best.stages), self.stages, best.stages)
        before, self.stages = self.stages, best.stages
        return Rebalanced(epoch, tuple(map(len, before)), tuple(map(len, best.stages)), now_s, best.period_s)


def slowest_s(pieces: Sequence[Piece], stages: Sequence[range], speeds: Sequence[float]) -> float:
    """Returns the seconds a step of the slowest stage."""
    return max(
        sum(pieces[module].seconds for module in modules) / speed for modules, speed in zip(stages, speeds, strict=True)
    )


def _pieces(timelines: Sequence[StageTimeline], stages: Sequence[range], speeds: Sequence[float]) -> list[Piece] | None:
    """Returns what each module took, on a device of speed 1; None where the run was too short to say."""
    seconds = [0.0] * sum(len(modules) for modules in stages)
    for timeline in timelines:
        for (work, module, _), duration_s in typical_s(timeline.spans).items():
            if not work.is_wait:
                seconds[module] += duration_s * speeds[timeline.stage]
    return [Piece(duration_s) for duration_s in seconds] if all(seconds) else None
