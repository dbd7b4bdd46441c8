"""What a run takes, leg by leg: a leg goes from a start, or from a checkpoint, to where the next one goes on."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from isograd.events.events import Event, Position, ReportSoFar, StageReport


@dataclass(frozen=True)
class Spent:
    """What a leg took.

    Attributes:
        start: Training steps that were taken before it.
        num_samples: Training samples of its last stage.
        train_s: Of that stage, training batches and the waits before them.
        wall_s: From the first message to the last report, or to the checkpoint that the next leg goes on from.
        device_s: Sum over stages of the time that each held its device.
        peak_bytes: Largest memory of a stage.
    """

    start: int
    num_samples: int
    train_s: float
    wall_s: float
    device_s: float
    peak_bytes: int


class Account:
    """Adds up what a leg takes; a sink. Its clock begins when it is made.

    Args:
        start: Training steps that were taken before the leg.
        earlier: The legs before.
    """

    def __init__(self, start: int, earlier: Sequence[Spent]) -> None:
        self._start, self._earlier = start, tuple(earlier)
        self._reports: dict[int, StageReport] = {}
        self._until: dict[Position, tuple[dict[int, StageReport], float]] = {}
        self._started_s = time.perf_counter()

    def take(self, event: Event) -> None:
        """Takes one event."""
        if isinstance(event, ReportSoFar):  # stages are not at a position at once: one may have ended meanwhile
            reports, _ = self._until.get(event.position, ({}, 0.0))
            reports[event.report.stage] = self._added(event.report)
            self._until[event.position] = reports, self._elapsed_s
        elif isinstance(event, StageReport):
            self._reports[event.stage] = self._added(event)

    @property
    def stages(self) -> list[StageReport]:
        """One report a stage that has ended, of the leg."""
        return [self._reports[stage] for stage in sorted(self._reports)]

    @property
    def legs(self) -> tuple[Spent, ...]:
        """All legs of the run, this one until now."""
        return (*self._earlier, self._leg(self.stages, self._elapsed_s))

    def legs_until(self, position: Position) -> tuple[Spent, ...]:
        """Returns all legs of the run, this one until all stages had come to a position; to be asked once."""
        reports, wall_s = self._until.pop(position)
        return (*self._earlier, self._leg([reports[stage] for stage in sorted(reports)], wall_s))

    @property
    def _elapsed_s(self) -> float:
        return time.perf_counter() - self._started_s

    def _added(self, report: StageReport) -> StageReport:
        """Returns a stage's report together with those of the earlier parts of a run that was rebalanced."""
        before = self._reports.get(report.stage)
        return report if before is None else before.followed_by(report)

    def _leg(self, stages: Sequence[StageReport], wall_s: float) -> Spent:
        return Spent(
            self._start,
            num_samples=stages[-1].num_samples if stages else 0,
            train_s=stages[-1].train_s if stages else 0.0,
            wall_s=wall_s,
            device_s=wall_s * len(stages),
            peak_bytes=max((stage.peak_bytes for stage in stages), default=0),
        )
