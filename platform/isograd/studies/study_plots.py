"""The pictures of a study: what is drawn. Drawing it is in :mod:`isograd.studies.study_drawing`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from isograd.studies.metrics import MEASURES
from isograd.studies.statistics import Spread
from isograd.studies.study_table import StudyTable, Trial

_MOST_NAMED = 3  # curves that stand out; the spreads of more would hide each other


@dataclass(frozen=True)
class Mark:
    """A trial's value at its end.

    Attributes:
        trial: Its number.
        value: In the unit of the axis.
        is_complete: Else it was stopped early, and its value is the one that it had then.
    """

    trial: int
    value: float
    is_complete: bool


@dataclass(frozen=True)
class History:
    """An objective by trial.

    Attributes:
        name: Of the metric.
        marks: In the order of the trials.
        best: Of the complete trials so far: (trial, value) wherever it gets better, and after the last trial.
        without: Trials that failed or were lost.
    """

    name: str
    marks: tuple[Mark, ...]
    best: tuple[tuple[int, float], ...]
    without: tuple[int, ...]


@dataclass(frozen=True)
class TrialCurve:
    """Test error by epoch over the seeds of a trial, in percent, up to where it ended.

    Attributes:
        trial: Its number.
        is_complete: Else it was stopped early.
        rank: From 0, of those that stand out; None: of the others.
        epochs: Those that all seeds have.
        errors: At each.
    """

    trial: int
    is_complete: bool
    rank: int | None
    epochs: tuple[int, ...]
    errors: tuple[Spread, ...]


@dataclass(frozen=True)
class LearningCurves:
    """Of all trials that have an epoch. ``num_seeds`` of each."""

    curves: tuple[TrialCurve, ...]
    num_seeds: int


@dataclass(frozen=True)
class FrontPoint:
    """A complete trial.

    Attributes:
        trial: Its number.
        x: In the unit of its axis.
        y: Likewise.
        is_on_front: Whether no other is better in both.
        is_chosen: Whether it is on the front of the study's own objectives: the best trial, where there is one.
    """

    trial: int
    x: float
    y: float
    is_on_front: bool
    is_chosen: bool


@dataclass(frozen=True)
class Front:
    """Two metrics of the complete trials against each other, both better when smaller; points by x, then y."""

    x_name: str
    y_name: str
    points: tuple[FrontPoint, ...]

    @property
    def line(self) -> tuple[FrontPoint, ...]:
        """The points that no other beats."""
        return tuple(point for point in self.points if point.is_on_front)


def histories(study: StudyTable) -> tuple[History, ...]:
    """Returns the history of each objective."""
    return tuple(_history(study, name) for name in study.objectives)


def learning_curves(study: StudyTable) -> LearningCurves:
    """Returns the curves of all trials. The best complete ones stand out, or, of several objectives, the front."""
    ranks = {trial.number: rank for rank, trial in enumerate(_standing_out(study))}
    curves = (_curve(trial, ranks.get(trial.number)) for trial in study.trials)
    return LearningCurves(tuple(curve for curve in curves if curve.epochs), len(study.seeds))


def fronts(study: StudyTable) -> tuple[Front, ...]:
    """Returns test error against time and against memory, which are always measured, and time against memory where
    both are objectives.
    """
    pairs = [("epoch_s", "test_error"), ("peak_bytes", "test_error")]
    if {"epoch_s", "peak_bytes"} <= set(study.objectives):
        pairs.append(("epoch_s", "peak_bytes"))
    return tuple(_front(study, x_name, y_name) for x_name, y_name in pairs)


def _history(study: StudyTable, name: str) -> History:
    ended = [trial for trial in study.trials if name in trial.metrics]
    marks = tuple(Mark(trial.number, scaled(name, trial.metrics[name]), trial.is_complete) for trial in ended)
    without = tuple(trial.number for trial in study.trials if trial.kind in ("failed", "lost"))
    return History(name, marks, tuple(_best(marks)), without)


def _best(marks: Sequence[Mark]) -> Iterator[tuple[int, float]]:
    best = float("inf")
    for mark in marks:
        if mark.is_complete and mark.value < best:
            best = mark.value
            yield mark.trial, best
    if best < float("inf"):
        yield marks[-1].trial, best


def _standing_out(study: StudyTable) -> list[Trial]:
    ordered = sorted(study.complete, key=lambda trial: trial.metrics["test_error"])
    if len(study.objectives) > 1:
        numbers = {trial.number for trial in study.front()}
        ordered = [trial for trial in ordered if trial.number in numbers]
    return ordered[:_MOST_NAMED]


def _curve(trial: Trial, rank: int | None) -> TrialCurve:
    found = trial.test_errors
    return TrialCurve(trial.number, trial.is_complete, rank, tuple(found), tuple(map(_percent, found.values())))


def _percent(share: Spread) -> Spread:
    deviation = None if share.deviation is None else 100 * share.deviation
    return Spread(100 * share.mean, deviation, share.num_values)


def _front(study: StudyTable, x_name: str, y_name: str) -> Front:
    on_front = {trial.number for trial in study.front((x_name, y_name))}
    chosen = {trial.number for trial in study.front()}
    points = (
        FrontPoint(
            trial.number,
            scaled(x_name, trial.metrics[x_name]),
            scaled(y_name, trial.metrics[y_name]),
            trial.number in on_front,
            trial.number in chosen,
        )
        for trial in study.complete
    )
    return Front(x_name, y_name, tuple(sorted(points, key=lambda point: (point.x, point.y))))


def scaled(name: str, value: float) -> float:
    """Returns the value of a metric in the unit of its axis."""
    return value * MEASURES[name].factor
