"""Parallel coordinates of a study: drawing what :mod:`isograd.studies.parallel` says."""

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from isograd.studies.canvas import GREY, new_figure, plain
from isograd.studies.parallel import Axis, Line, ParallelCoordinates

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = "viridis"  # from the best, dark, to the worst; in grey print and for the colour-blind it keeps its order
_AXIS_WIDTH, _WIDEST_AXIS, _LETTER_WIDTH = 0.75, 1.3, 0.08  # inches


def draw_parallel_coordinates(content: ParallelCoordinates) -> "Figure":
    """Draws an axis a parameter and a line a trial, coloured by test error; what was stopped early in grey."""
    figure = new_figure(width=max(11.0, _axis_width(content) * len(content.axes)), height=5.4)
    axes = figure.subplots()
    for line in content.lines:
        _draw_line(axes, line)
    last = len(content.axes) - 1
    _draw_scale(axes, last)
    for index, axis in enumerate(content.axes):
        _draw_axis(axes, index, axis, is_last=index == last)
    axes.set_title(_said(content), fontsize=10)
    names = [plain(axis.label) for axis in content.axes]
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
    axes.tick_params(axis="x", length=0)
    axes.set_yticks([])
    axes.set_xlim(-0.4, len(names) - 0.4)
    axes.set_ylim(-0.04, 1.04)
    axes.spines[:].set_visible(False)
    return figure


def _axis_width(content: ParallelCoordinates) -> float:
    """Returns the room of an axis, in inches, so that texts do not run into its neighbour."""
    longest = max((len(text) for axis in content.axes[1:] for _, text in axis.ticks), default=0)
    return min(max(_AXIS_WIDTH, _LETTER_WIDTH * longest), _WIDEST_AXIS)


def _draw_line(axes: "Axes", line: Line) -> None:
    from matplotlib import colormaps

    heights = np.array([np.nan if place is None else place for place in line.positions], dtype=float)
    if line.shade is None:
        axes.plot(heights, color=GREY, linewidth=0.6, alpha=0.45, marker=".", markersize=2)
        return
    colour = colormaps[_COLOURS](0.92 * line.shade)  # the brightest yellow is too faint on white
    width = 2.6 if line.shade == 0 else 1.3
    axes.plot(heights, color=colour, linewidth=width, alpha=0.9, marker="o", markersize=3)
    for gap in _gaps(line):
        axes.plot(gap, heights[gap], color=colour, linewidth=width, alpha=0.6, linestyle=":")


def _gaps(line: Line) -> list[list[int]]:
    """Returns the pairs of axes between which a trial does not have the parameters."""
    present = [index for index, place in enumerate(line.positions) if place is not None]
    return [[before, after] for before, after in pairwise(present) if after - before > 1]


def _draw_axis(axes: "Axes", index: int, axis: Axis, *, is_last: bool) -> None:
    """Ticks stand on the left, where they lie on lines; those of the last axis on the right, where there are none."""
    if not is_last:
        axes.plot([index, index], [0, 1], color="#444444", linewidth=0.9, zorder=1)
    where = {"xytext": (7, 0), "ha": "left"} if is_last else {"xytext": (-4, 0), "ha": "right"}
    box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6}
    for place, text in axis.ticks:
        axes.annotate(
            plain(text), (index, place), textcoords="offset points", va="center", fontsize=8, bbox=box, **where
        )


def _draw_scale(axes: "Axes", index: int) -> None:
    """Paints the last axis in the colours of its test errors."""
    from matplotlib import colormaps

    shades = np.linspace(0, 1, 64)
    for low, high in pairwise(shades):
        axes.plot([index, index], [low, high], color=colormaps[_COLOURS](0.92 * low), linewidth=6, zorder=1)


def _said(content: ParallelCoordinates) -> str:
    best = [str(line.trial) for line in content.lines if line.shade == 0]
    said = [f"thick: the smallest test error (trial {', '.join(best)})"] if best else []
    if any(line.shade is not None and _gaps(line) for line in content.lines):
        said.append("dotted: past parameters that a trial does not have")
    return "; ".join([*said, *(["grey: stopped early"] if any(line.shade is None for line in content.lines) else [])])
