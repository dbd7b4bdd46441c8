"""What a run came to: one record, judged by its score, from events to ``result.json`` and back."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from operator import attrgetter
from typing import Any

from isograd.events.events import EpochRecord, Event, StageReport
from isograd.run.spent import Spent
from isograd.tasks.task import Score

FORMAT = 2  # of result.json and of checkpoints


@dataclass(frozen=True)
class RunRecord:
    """What a run came to. Times are in seconds, memory in bytes; scores as their metric computes them.

    Attributes:
        score: By which it is judged.
        split: On which: ``valid``, or ``test`` where there is no validation split.
        epochs: One record for each epoch, split and local module.
        num_modules: K.
        num_steps: Training steps.
        samples_per_s: Training samples of the last stage over its training time; None where no step was taken.
        wall_s: From the first message to the last report.
        device_s: Sum over stages of the time that each held its device.
        peak_bytes: Largest memory of a stage.
        stages: One report a stage of the last leg: utilisation, waits, memory, bytes sent to the next stage.
        checkpoint: The newest, where there is one.
        fingerprint: Of all that changes the run's numbers.
        hardware: Where it ran.
        timeline: What the recorded timeline says beside the planned one; None where none was recorded.
        spent: What each leg took, of which a run that was resumed has several; speed, times and memory are of all.
    """

    score: Score
    split: str
    epochs: list[EpochRecord]
    num_modules: int
    num_steps: int
    samples_per_s: float | None
    wall_s: float
    device_s: float
    peak_bytes: int
    stages: list[dict[str, Any]]
    checkpoint: str | None
    fingerprint: str
    hardware: str
    timeline: str | None = None
    spent: list[Spent] = field(default_factory=list)

    @property
    def num_epochs(self) -> int:
        """How many epochs have been evaluated or trained."""
        return max((record.epoch for record in self.epochs), default=0)

    def by_epoch(self, split: str | None = None, module: int | None = None) -> dict[int, float]:
        """Returns the score of a module's head by epoch.

        Args:
            split: None: the one that the run is judged on.
            module: None: the final one.
        """
        split = self.split if split is None else split
        module = self.num_modules - 1 if module is None else module
        return {
            record.epoch: record.values[self.score.metric]
            for record in self.epochs
            if record.split == split and record.module == module and self.score.metric in record.values
        }

    @property
    def final(self) -> float | None:
        """The score of the final module after the last epoch, on the split that judges."""
        return next(reversed(self.by_epoch().values()), None)

    @property
    def best(self) -> float | None:
        """The best score over epochs, as the papers' scripts report it."""
        return self.score.best(self.by_epoch().values())

    @property
    def test(self) -> float | None:
        """The score of the final module on the test split, computed once, at the end."""
        return next(reversed(self.by_epoch("test").values()), None)

    @property
    def module_scores(self) -> list[float | None]:
        """Of every local module's head after the last epoch; None where it makes no prediction."""
        return [next(reversed(self.by_epoch(module=k).values()), None) for k in range(self.num_modules)]

    def to_json(self) -> dict[str, Any]:
        """Returns the record as JSON; :func:`~isograd.run.stored_record.read_record` turns it back."""
        return {"format": FORMAT, **asdict(self)}


class Tally:
    """Collects from events what the record is made of; a sink.

    Args:
        num_modules: K.
        score: By which the run is judged.
        split: On which.
    """

    def __init__(self, num_modules: int, score: Score, split: str) -> None:
        self._num_modules, self._score, self._split = num_modules, score, split
        self._epochs: dict[tuple[int, str, int], EpochRecord] = {}

    def take(self, event: Event) -> None:
        """Takes one event."""
        if isinstance(event, EpochRecord):
            self._epochs[event.epoch, event.split, event.module] = event

    def record(
        self,
        legs: Sequence[Spent],
        stages: Sequence[StageReport],
        *,
        checkpoint: str | None,
        fingerprint: str,
        hardware: str,
        timeline: str | None = None,
    ) -> RunRecord:
        """Returns the record of the events so far, and of what the run's legs took, the last one stage by stage."""
        train_s = sum(leg.train_s for leg in legs)
        epochs = sorted(self._epochs.values(), key=attrgetter("epoch", "step", "split", "module"))
        return RunRecord(
            score=self._score,
            split=self._split,
            epochs=epochs,
            num_modules=self._num_modules,
            num_steps=max((record.step for record in epochs), default=0),
            samples_per_s=sum(leg.num_samples for leg in legs) / train_s if train_s else None,
            wall_s=sum(leg.wall_s for leg in legs),
            device_s=sum(leg.device_s for leg in legs),
            peak_bytes=max(leg.peak_bytes for leg in legs),
            stages=[_stage(report) for report in stages],
            checkpoint=checkpoint,
            fingerprint=fingerprint,
            hardware=hardware,
            timeline=timeline,
            spent=list(legs),
        )


def _stage(report: StageReport) -> dict[str, Any]:
    record = asdict(report)
    record.pop("step_ends_s")
    return {**record, "modules": list(report.modules), "utilisation": report.utilisation}
