"""By what trials are judged: all that depends on which metric scores them, on its direction and on its unit."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from optuna.study import StudyDirection


@dataclass(frozen=True)
class Measure:
    """A number that a trial comes to.

    Attributes:
        name: In results, tables and ``tune.objectives``.
        unit: As it is shown in.
        scale: From the number to that unit.
        decimals: That are shown.
        higher_is_better: Its direction.
    """

    name: str
    unit: str
    scale: float = 1.0
    decimals: int = 2
    higher_is_better: bool = False

    @property
    def mode(self) -> str:
        """The direction as Tune has it."""
        return "max" if self.higher_is_better else "min"

    @property
    def direction(self) -> StudyDirection:
        """The direction as Optuna has it."""
        return StudyDirection.MAXIMIZE if self.higher_is_better else StudyDirection.MINIMIZE

    def cost(self, value: float) -> float:
        """Returns a number of which less is better."""
        return -value if self.higher_is_better else value

    def show(self, value: float) -> str:
        """Returns a value as text, with its unit."""
        return f"{self.scale * value:,.{self.decimals}f} {self.unit}"


SCORE = Measure("test_error", "%", scale=100)  # after an epoch; early stopping sees it, and no other
_BEST_SCORE = Measure(f"best_{SCORE.name}", "%", scale=100)  # of all epochs
_PEAK_BYTES, _EPOCH_S = Measure("peak_bytes", "MiB", 2**-20, decimals=0), Measure("epoch_s", "s")
MEASURES = {
    measure.name: measure
    for measure in (SCORE, _BEST_SCORE, _PEAK_BYTES, _EPOCH_S, Measure("train_s", "s"), Measure("wall_s", "s"))
}
METRICS = tuple(MEASURES)
OBJECTIVES = (SCORE.name, _PEAK_BYTES.name, _EPOCH_S.name)


def show_metric(name: str, value: float) -> str:
    """Returns a metric of a trial as text, with its unit."""
    return MEASURES[name].show(value)


def read_score(row: Mapping[str, Any]) -> float:
    """Returns the score of an epoch, of a row of a run's history."""
    return row["module_test_errors"][-1]


def average_scores(records: Iterable[Mapping[str, Any]], epoch: int) -> dict[str, float]:
    """Returns the score after an epoch and the best one of all epochs: means over the seeds of the records."""
    by_seed: dict[int, dict[int, float]] = {}
    for record in records:
        by_seed.setdefault(record["seed"], {})[record["epoch"]] = record[SCORE.name]
    return {
        SCORE.name: fmean(scores[epoch] for scores in by_seed.values()),
        _BEST_SCORE.name: fmean(min(scores.values(), key=SCORE.cost) for scores in by_seed.values()),
    }


@dataclass
class Best:
    """The best trial so far, or, of several objectives, the front.

    Attributes:
        objectives: By what they are judged.
        values: Trial -> its values, of those that no other trial beats in all of them.
    """

    objectives: Sequence[str]
    values: dict[int, tuple[float, ...]] = field(default_factory=dict)

    def take(self, number: int, metrics: Mapping[str, float]) -> None:
        """Takes a complete trial."""
        new = tuple(metrics[name] for name in self.objectives)
        if any(self._dominates(other, new) for other in self.values.values()):
            return
        left = {trial: other for trial, other in self.values.items() if not self._dominates(new, other)}
        if len(self.objectives) > 1 or new not in left.values():
            self.values = {**left, number: new}

    def _dominates(self, first: tuple[float, ...], second: tuple[float, ...]) -> bool:
        costs = [MEASURES[name].cost for name in self.objectives]
        return first != second and all(cost(a) <= cost(b) for cost, a, b in zip(costs, first, second, strict=True))

    def __str__(self) -> str:
        if not self.values:
            return "none complete yet"
        if len(self.objectives) > 1:
            return f"front of {len(self.values)}: {', '.join(map(str, sorted(self.values)))}"
        ((number, (value,)),) = self.values.items()
        return f"best {show_metric(self.objectives[0], value)} (trial {number})"
