"""Two metrics of a study's trials against each other: what is drawn, and drawing it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isograd.display.measures import SCORE, Measure
from isograd.studies.figures import COLOURS, GREY, finish_axes, finish_figure, make_panels
from isograd.studies.study import StudyTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
    """Two metrics of the complete trials against each other, x better when smaller; points by x, then y."""

    x: Measure
    y: Measure
    points: tuple[FrontPoint, ...]

    @property
    def line(self) -> tuple[FrontPoint, ...]:
        """The points that no other beats."""
        return tuple(point for point in self.points if point.is_on_front)


def fronts(study: StudyTable) -> tuple[Front, ...]:
    """Returns the score against time and against memory, which are always measured, and time against memory where
    both are objectives.
    """
    pairs = [("epoch_s", SCORE), ("peak_bytes", SCORE)]
    if {"epoch_s", "peak_bytes"} <= set(study.objectives):
        pairs.append(("epoch_s", "peak_bytes"))
    return tuple(_make_front(study, x_name, y_name) for x_name, y_name in pairs)


def _make_front(study: StudyTable, x_name: str, y_name: str) -> Front:
    on_front, chosen = study.front((x_name, y_name)), study.front()
    x, y = study.measures[x_name], study.measures[y_name]
    points = [
        FrontPoint(
            trial.number,
            x.in_unit(trial.metrics[x_name]),
            y.in_unit(trial.metrics[y_name]),
            trial in on_front,
            trial in chosen,
        )
        for trial in study.complete
    ]
    return Front(x, y, tuple(sorted(points, key=lambda point: (point.x, point.y))))


def draw_fronts(contents: Sequence[Front]) -> "Figure":
    """Draws the fronts side by side."""
    panels = make_panels(len(contents))
    for axes, content in zip(panels, contents, strict=True):
        _draw_front(axes, content)
    return finish_figure(panels)


def _draw_front(axes: "Axes", content: Front) -> None:
    others = [point for point in content.points if not point.is_on_front]
    if others:
        axes.plot(*_split(others), "o", color=GREY, markersize=5, label="complete trial")
    axes.step(*_split(content.line), where="post", color=COLOURS[1], linewidth=1, alpha=0.7)
    axes.plot(*_split(content.line), "o", color=COLOURS[1], markersize=7, label="no other is better in both")
    chosen = [point for point in content.points if point.is_chosen]
    label = "on the front of all objectives" if len(chosen) > 1 else "the best trial"
    axes.plot(*_split(chosen), "o", markerfacecolor="none", color="#000000", markersize=12, label=label)
    named = content.line if len(chosen) > 1 else (*content.line, *chosen)
    side, va = (6, "bottom") if content.y.higher_is_better else (-6, "top")
    where = {"xytext": (-6, side), "textcoords": "offset points", "ha": "right", "va": va}  # where no other lies
    for point in {point.trial: point for point in named}.values():
        axes.annotate(str(point.trial), (point.x, point.y), fontsize=9, **where)
    axes.margins(0.12)
    axes.locator_params(nbins=6)
    finish_axes(axes, content.x.axis, content.y.axis)


def _split(points: Sequence[FrontPoint]) -> tuple[list[float], list[float]]:
    return [point.x for point in points], [point.y for point in points]
