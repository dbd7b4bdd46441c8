"""The picture of a comparison: what is drawn, and drawing it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isograd.compare.comparison import Comparison, Entry
from isograd.studies.canvas import COLOURS, new_figure, plain, png
from isograd.studies.curves import Curve, band
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
    """Speed and final test error of an entry.

    Attributes:
        label: Of the entry.
        images_per_s: Over seeds.
        error: Over seeds, in percent.
    """

    label: str
    images_per_s: Spread
    error: Spread


@dataclass(frozen=True)
class Picture:
    """What is drawn: curves on the left, points on the right, each entry in the same colour in both.

    Attributes:
        labels: Of all entries, in the order that gives them their colours.
        curves: Of the entries that have any.
        points: Of the entries that have one.
        num_seeds: Largest number of runs of an entry.
    """

    labels: tuple[str, ...]
    curves: tuple[Curve, ...]
    points: tuple[Point, ...]
    num_seeds: int


def picture(comparison: Comparison) -> Picture:
    """Returns what is drawn of a comparison."""
    entries = comparison.entries
    curves = (_curve(entry) for entry in entries)
    points = (_point(entry, comparison) for entry in entries)
    return Picture(
        tuple(entry.label for entry in entries),
        tuple(curve for curve in curves if curve.epochs),
        tuple(point for point in points if point is not None),
        max(len(entry.records) for entry in entries),
    )


def draw(content: Picture, path: Path) -> None:
    """Draws a comparison into a PNG file, wholly or not at all."""
    write_atomically(path, png(draw_comparison(content), 150))


def draw_comparison(content: Picture) -> "Figure":
    """Draws learning curves beside test error against speed."""
    figure = new_figure(height=4.8)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_curves(left, content)
    _draw_points(right, content)
    handles = [_handle(content, label) for label in content.labels]
    num_columns = max(1, _LEGEND_CHARACTERS // (max(map(len, content.labels)) + 6))
    figure.legend(handles=handles, loc="outside lower center", ncols=num_columns, frameon=False)
    return figure


def _curve(entry: Entry) -> Curve:
    epochs = sorted({epoch for record in entry.records for epoch in record.test_errors})
    errors = [_percent([record.test_errors.get(epoch) for record in entry.records]) for epoch in epochs]
    return Curve(entry.label, tuple(epochs), tuple(error for error in errors if error is not None))


def _point(entry: Entry, comparison: Comparison) -> Point | None:
    speed = comparison.summary(entry).images_per_s
    error = _percent([record.test_error for record in entry.records])
    return None if speed is None or error is None else Point(entry.label, speed, error)


def _percent(shares: Sequence[float | None]) -> Spread | None:
    return spread(100 * share for share in shares if share is not None)


def _style(content: Picture, label: str) -> dict[str, Any]:
    """A colour, a marker and dashes that no other of the first 56 entries has together."""
    number = content.labels.index(label)
    dashes = _DASHES[number // len(COLOURS) % len(_DASHES)]
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "linestyle": dashes,
        "markersize": 5,
    }


def _handle(content: Picture, label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], label=plain(label), **_style(content, label))


def _draw_curves(axes: "Axes", content: Picture) -> None:
    from matplotlib.ticker import MaxNLocator

    for curve in content.curves:
        style = _style(content, curve.label)
        every = max(1, len(curve.epochs) // _MARKED_EPOCHS)
        means = [error.mean for error in curve.errors]
        axes.plot(curve.epochs, means, markevery=every, linewidth=1.5, **style)
        low, high = band(curve)
        if len(means) > 1:
            axes.fill_between(curve.epochs, low, high, color=style["color"], alpha=0.2, linewidth=0)
        else:  # a band of one epoch has no width
            axes.vlines(curve.epochs, low, high, color=style["color"])
    axes.set_xlim(left=0, right=1.03 * max((curve.epochs[-1] for curve in content.curves), default=1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(axes, "Learning curves", "epoch", content)


def _draw_points(axes: "Axes", content: Picture) -> None:
    for point in content.points:
        style = _style(content, point.label) | {"linestyle": "none", "markersize": 7}
        axes.errorbar(
            point.images_per_s.mean,
            point.error.mean,
            xerr=point.images_per_s.deviation,
            yerr=point.error.deviation,
            capsize=3,
            **style,
        )
    axes.margins(0.15)
    _finish(axes, "After the last epoch", "training speed, images/s", content)


def _finish(axes: "Axes", title: str, x_label: str, content: Picture) -> None:
    spread_text = "mean ± standard deviation" if content.num_seeds > 1 else "one seed"
    axes.set_title(f"{title} ({spread_text})", fontsize="medium")
    axes.set_xlabel(x_label)
    axes.set_ylabel("test error, %")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
