"""The picture of a comparison: what is drawn, and drawing it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isograd.compare.comparison import Comparison, Entry
from isograd.display.measures import SPEED, Measure
from isograd.studies import figures
from isograd.studies.curves import Curve, band
from isograd.studies.figures import COLOURS
from isograd.studies.statistics import Spread, spread
from isograd.system.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES = ("-", "--", "-.", ":")
_MARKED_EPOCHS = 20  # a marker on each, up to so many
_LEGEND_CHARACTERS = 130  # what fits below the panels in a line


@dataclass(frozen=True)
class Point:
    """Speed and final score of an entry over seeds, each in its unit."""

    label: str
    speed: Spread
    score: Spread


@dataclass(frozen=True)
class Picture:
    """What is drawn: curves on the left, points on the right, each entry in the same colour in both.

    Attributes:
        labels: Of all entries, in the order that gives them their colours.
        curves: Of the entries that have any.
        points: Of the entries that have one.
        num_seeds: Largest number of runs of an entry.
        judged: How the scores of curves are written.
        measure: How those of points are.
    """

    labels: tuple[str, ...]
    curves: tuple[Curve, ...]
    points: tuple[Point, ...]
    num_seeds: int
    judged: Measure
    measure: Measure

    def style(self, label: str) -> dict[str, Any]:
        """Returns a colour, a marker and dashes that no other of the first 56 entries has together."""
        number = self.labels.index(label)
        return {
            "color": COLOURS[number % len(COLOURS)],
            "marker": _MARKERS[number % len(_MARKERS)],
            "linestyle": _DASHES[number // len(COLOURS) % len(_DASHES)],
            "markersize": 5,
        }


def picture(comparison: Comparison) -> Picture:
    """Returns what is drawn of a comparison."""
    entries = comparison.entries
    curves = (_make_curve(entry, comparison.judged) for entry in entries)
    points = (_make_point(entry, comparison) for entry in entries)
    return Picture(
        tuple(entry.label for entry in entries),
        tuple(curve for curve in curves if curve.epochs),
        tuple(point for point in points if point is not None),
        max(len(entry.runs) for entry in entries),
        comparison.judged,
        comparison.measure,
    )


def _make_curve(entry: Entry, measure: Measure) -> Curve:
    curves = [run.record.by_epoch() for run in entry.runs]
    epochs = sorted({epoch for curve in curves for epoch in curve})
    spreads = (spread(curve.get(epoch) for curve in curves) for epoch in epochs)
    return Curve(entry.label, tuple(epochs), tuple(each.scale(measure.scale) for each in spreads if each is not None))


def _make_point(entry: Entry, comparison: Comparison) -> Point | None:
    summary = comparison.summary(entry)
    if summary.samples_per_s is None or summary.score is None:
        return None
    return Point(entry.label, summary.samples_per_s, summary.score.scale(comparison.measure.scale))


def draw(content: Picture, path: Path) -> None:
    """Draws a comparison into a PNG file, wholly or not at all."""
    write_atomically(path, figures.make_png(draw_comparison(content), 150))


def draw_comparison(content: Picture) -> "Figure":
    """Draws learning curves beside the score against speed."""
    from matplotlib.lines import Line2D

    left, right = panels = figures.make_panels(2, height=4.8, width_ratios=(3, 2))
    _draw_curves(left, content)
    _draw_points(right, content)
    handles = [Line2D([], [], label=figures.escape_text(label), **content.style(label)) for label in content.labels]
    num_columns = max(1, _LEGEND_CHARACTERS // (max(map(len, content.labels)) + 6))
    figure = figures.finish_figure(panels)
    figure.legend(handles=handles, loc="outside lower center", ncols=num_columns, frameon=False)
    return figure


def _draw_curves(axes: "Axes", content: Picture) -> None:
    for curve in content.curves:
        style = content.style(curve.label)
        means = [score.mean for score in curve.scores]
        axes.plot(curve.epochs, means, markevery=max(1, len(means) // _MARKED_EPOCHS), linewidth=1.5, **style)
        low, high = band(curve, content.judged)
        if len(means) > 1:
            axes.fill_between(curve.epochs, low, high, color=style["color"], alpha=0.2, linewidth=0)
        else:  # a band of one epoch has no width
            axes.vlines(curve.epochs, low, high, color=style["color"])
    axes.set_xlim(left=0, right=1.03 * max((curve.epochs[-1] for curve in content.curves), default=1))
    _set_title(axes, "Learning curves", content)
    figures.finish_axes(axes, "epoch", content.judged.axis, counts=True)


def _draw_points(axes: "Axes", content: Picture) -> None:
    for point in content.points:
        style = content.style(point.label) | {"linestyle": "none", "markersize": 7}
        speed, score = point.speed, point.score
        axes.errorbar(speed.mean, score.mean, xerr=speed.deviation, yerr=score.deviation, capsize=3, **style)
    axes.margins(0.15)
    _set_title(axes, "After the last epoch", content)
    figures.finish_axes(axes, SPEED.axis, content.measure.axis)


def _set_title(axes: "Axes", title: str, content: Picture) -> None:
    spread_text = "mean ± standard deviation" if content.num_seeds > 1 else "one seed"
    axes.set_title(f"{title} ({spread_text})", fontsize="medium")
