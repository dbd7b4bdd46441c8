"""By what trials are judged: their score on the validation split, and what they take of memory and time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from optuna.study import StudyDirection

from isograd.data.batch import Split
from isograd.display.measures import BEST_SCORE, SCORE, Measure
from isograd.tasks.task import Score

SPLIT: Split = "valid"  # early stopping and the search see it, and no other; the test split is for the record
OBJECTIVES = (SCORE, "peak_bytes", "epoch_s")


def direction_of(measure: Measure) -> StudyDirection:
    """Returns the direction as Optuna has it."""
    return StudyDirection.MAXIMIZE if measure.higher_is_better else StudyDirection.MINIMIZE


def mode_of(measure: Measure) -> str:
    """Returns the direction as Tune has it."""
    return "max" if measure.higher_is_better else "min"


def read_scores(records: Iterable[Mapping[str, Any]], score: Score) -> dict[tuple[int, int], float]:
    """Returns (seed, epoch) -> score of the final module, from the records of a trial's epochs."""
    judged = [record for record in records if record["split"] == SPLIT and score.metric in record["values"]]
    judged.sort(key=lambda record: record["module"])
    return {(record["seed"], record["epoch"]): record["values"][score.metric] for record in judged}


def average_scores(by_seed: Iterable[Mapping[int, float]], epoch: int, score: Score) -> dict[str, float]:
    """Returns the score after an epoch and the best one until then: means over seeds, of each its scores by epoch."""
    until = [{number: value for number, value in scores.items() if number <= epoch} for scores in by_seed]
    best = [score.best(scores.values()) for scores in until]
    return {
        SCORE: fmean(scores[epoch] for scores in until),
        BEST_SCORE: fmean(value for value in best if value is not None),
    }


def beats(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether costs are at least as good as others in each objective, and better in one."""
    return first != second and all(a <= b for a, b in zip(first, second, strict=True))


@dataclass
class Best:
    """The best trial so far, or, of several objectives, the front.

    Attributes:
        objectives: By what they are judged.
        values: Trial -> its values, of those that no other trial beats in all of them.
    """

    objectives: Mapping[str, Measure]
    values: dict[int, tuple[float, ...]] = field(default_factory=dict)

    def take(self, number: int, metrics: Mapping[str, float]) -> None:
        """Takes a complete trial."""
        new = tuple(metrics[name] for name in self.objectives)
        costs = self._costs(new)
        if any(beats(self._costs(other), costs) for other in self.values.values()):
            return
        left = {trial: other for trial, other in self.values.items() if not beats(costs, self._costs(other))}
        if len(self.objectives) > 1 or new not in left.values():
            self.values = {**left, number: new}

    def _costs(self, values: Sequence[float]) -> list[float]:
        return [measure.cost(value) for measure, value in zip(self.objectives.values(), values, strict=True)]

    def __str__(self) -> str:
        if not self.values:
            return "none complete yet"
        if len(self.objectives) > 1:
            return f"front of {len(self.values)}: {', '.join(map(str, sorted(self.values)))}"
        ((number, (value,)),) = self.values.items()
        (measure,) = self.objectives.values()
        return f"best {measure.text(value)} (trial {number})"
