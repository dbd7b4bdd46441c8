"""The course of a search: each objective by trial. What is drawn, and drawing it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from isograd.display.measures import RESOURCES, Measure
from isograd.studies.figures import COLOURS, GREY, finish_axes, finish_figure, make_panels, start_at_zero
from isograd.studies.study import StudyTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STOPPED: dict[str, Any] = {"color": GREY, "markersize": 5, "label": "stopped early: what it had then"}
_STOPPED |= {"markerfacecolor": "none"}
_COMPLETE: dict[str, Any] = {"color": COLOURS[0], "markersize": 6, "label": "complete"}


@dataclass(frozen=True)
class Mark:
    """A trial's value at its end, in the unit of the axis; of one that was stopped early, what it had then."""

    trial: int
    value: float
    is_complete: bool


@dataclass(frozen=True)
class History:
    """An objective by trial.

    Attributes:
        measure: How it is written.
        marks: In the order of the trials.
        best: Of the complete trials so far: (trial, value) wherever it gets better, and after the last trial.
        without: Trials that failed or were lost.
    """

    measure: Measure
    marks: tuple[Mark, ...]
    best: tuple[tuple[int, float], ...]
    without: tuple[int, ...]


def histories(study: StudyTable) -> tuple[History, ...]:
    """Returns the history of each objective."""
    return tuple(_make_history(study, name) for name in study.objectives)


def _make_history(study: StudyTable, name: str) -> History:
    measure = study.measures[name]
    ended = [trial for trial in study.trials if name in trial.metrics]
    marks = tuple(Mark(trial.number, measure.in_unit(trial.metrics[name]), trial.is_complete) for trial in ended)
    without = tuple(trial.number for trial in study.trials if trial.kind in ("failed", "lost"))
    return History(measure, marks, tuple(_follow_best(marks, measure.cost)), without)


def _follow_best(marks: Sequence[Mark], cost: Callable[[float], float]) -> Iterator[tuple[int, float]]:
    best: float | None = None
    for mark in marks:
        if mark.is_complete and (best is None or cost(mark.value) < cost(best)):
            best = mark.value
            yield mark.trial, best
    if best is not None:
        yield marks[-1].trial, best


def draw_histories(contents: Sequence[History]) -> "Figure":
    """Draws the history of each objective, side by side."""
    panels = make_panels(len(contents))
    for axes, content in zip(panels, contents, strict=True):
        _draw_history(axes, content)
    return finish_figure(panels)


def _draw_history(axes: "Axes", content: History) -> None:
    for is_complete, style in ((False, _STOPPED), (True, _COMPLETE)):
        points = [(mark.trial, mark.value) for mark in content.marks if mark.is_complete == is_complete]
        if points:
            axes.plot(*zip(*points, strict=True), "o", **style)
    if content.best:
        axes.step(*zip(*content.best, strict=True), where="post", color=COLOURS[1], linewidth=2, label="best so far")
    for trial in content.without:  # each label stands in the legend once
        axes.axvline(trial, color=COLOURS[3], linestyle=":", linewidth=1, label="failed or lost")
    if content.measure not in RESOURCES.values():
        start_at_zero(axes, content.measure)
    finish_axes(axes, "trial", content.measure.axis, counts=True)
