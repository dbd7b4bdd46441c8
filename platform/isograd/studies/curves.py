"""Learning curves with a band, of several runs of one configuration: what is drawn, and drawing those of a study."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from isograd.display.measures import SCORE, Measure
from isograd.studies.figures import COLOURS, GREY, finish_axes, finish_figure, make_panels, start_at_zero
from isograd.studies.statistics import Spread
from isograd.studies.study import StudyTable, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_NAMED = 3  # curves that stand out; the spreads of more would hide each other
_COMPLETE: dict[str, Any] = {"color": "#555555", "linewidth": 1.1, "label": "complete"}
_STOPPED: dict[str, Any] = {"color": GREY, "linewidth": 0.8, "label": "stopped early, at x"}
_STOPPED |= {"marker": "x", "markevery": [-1], "markersize": 6}


@dataclass(frozen=True)
class Curve:
    """Score by epoch over the seeds of an entry, in its unit."""

    label: str
    epochs: tuple[int, ...]
    scores: tuple[Spread, ...]


@dataclass(frozen=True)
class TrialCurve(Curve):
    """A trial's, of the epochs that all its seeds have.

    Attributes:
        trial: Its number.
        is_complete: Else it was stopped early.
        rank: From 0, of those that stand out; None: of the others.
    """

    trial: int
    is_complete: bool
    rank: int | None


@dataclass(frozen=True)
class LearningCurves:
    """Of all trials that have an epoch, ``num_seeds`` of each, and how their scores are written."""

    measure: Measure
    curves: tuple[TrialCurve, ...]
    num_seeds: int


def band(curve: Curve, measure: Measure) -> tuple[list[float], list[float]]:
    """Returns the lower and the upper edge of a curve's band, one standard deviation from the mean.

    Where no mean is negative, no edge is; of percentages, none is over 100.
    """
    edges = [(score.mean, score.deviation or 0.0) for score in curve.scores]
    floor = 0.0 if all(mean >= 0 for mean, _ in edges) else -math.inf
    ceiling = 100.0 if measure.unit == "%" else math.inf
    return [max(floor, mean - each) for mean, each in edges], [min(ceiling, mean + each) for mean, each in edges]


def learning_curves(study: StudyTable) -> LearningCurves:
    """Returns the curves of all trials. The best complete ones stand out, or, of several objectives, the front."""
    outstanding = study.front() if len(study.objectives) > 1 else study.complete
    measure = study.measures[SCORE]
    best = sorted(outstanding, key=lambda trial: measure.cost(trial.metrics[SCORE]))[:_MOST_NAMED]
    ranks = {trial.number: rank for rank, trial in enumerate(best)}
    curves = (_make_curve(trial, ranks.get(trial.number), measure) for trial in study.trials)
    return LearningCurves(measure, tuple(curve for curve in curves if curve.epochs), len(study.seeds))


def _make_curve(trial: Trial, rank: int | None, measure: Measure) -> TrialCurve:
    scores = {epoch: score.scale(measure.scale) for epoch, score in trial.scores.items()}
    label = f"trial {trial.number}"
    return TrialCurve(label, tuple(scores), tuple(scores.values()), trial.number, trial.is_complete, rank)


def draw_learning_curves(content: LearningCurves) -> "Figure":
    """Draws all curves; those that stand out in colour, with the spread over seeds."""
    (axes,) = panels = make_panels()
    for curve in sorted(content.curves, key=_depth):
        _draw_curve(axes, curve, content.measure)
    axes.set_xlim(left=0.8)
    start_at_zero(axes, content.measure)
    finish_axes(axes, "epoch", content.measure.axis, counts=True)
    num_seeds = content.num_seeds
    axes.set_title(f"mean ± standard deviation over {num_seeds} seeds" if num_seeds > 1 else "one seed", fontsize=10)
    return finish_figure(panels)


def _depth(curve: TrialCurve) -> float:
    """What is drawn later lies on top: the best last."""
    return curve.is_complete - 2.0 if curve.rank is None else 1.0 / (1 + curve.rank)


def _draw_curve(axes: "Axes", curve: TrialCurve, measure: Measure) -> None:
    means = [score.mean for score in curve.scores]
    if curve.rank is None:
        axes.plot(curve.epochs, means, **(_COMPLETE if curve.is_complete else _STOPPED))
        return
    colour = COLOURS[curve.rank % len(COLOURS)]
    label = f"{curve.label}: {means[-1]:.2f} {measure.unit}".rstrip()
    axes.plot(curve.epochs, means, color=colour, linewidth=2, marker="o", markersize=4, label=label)
    axes.fill_between(curve.epochs, *band(curve, measure), color=colour, alpha=0.15, linewidth=0)
