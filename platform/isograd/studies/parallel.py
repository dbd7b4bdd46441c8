"""Parallel coordinates of a study, an axis a parameter, a line a trial: what is drawn, and drawing it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from isograd.display.measures import SCORE, Measure
from isograd.studies.figures import DARK, GREY, escape_text, finish_figure, make_panels
from isograd.studies.study import StudyTable, Trial
from isograd.tune.space import Categorical, Cuts, Number, Parameter

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SWITCH = ("false", "true")  # from the bottom up, in whatever order a space lists them
_MOST_TICKS = 6  # of steps, each with a tick up to so many
_COLOURS = "viridis"  # from the best, dark, to the worst; in grey print and for the colour-blind it keeps its order
_BRIGHTEST = 0.92  # the brightest yellow is too faint on white
_AXIS_WIDTH, _WIDEST_AXIS, _LETTER_WIDTH = 0.75, 1.3, 0.08  # inches

Ticks = tuple[tuple[float, str], ...]
"""(Position in [0, 1], text), from the bottom up."""


@dataclass(frozen=True)
class Axis:
    """What an axis shows, and its ticks."""

    label: str
    ticks: Ticks


@dataclass(frozen=True)
class Line:
    """A trial.

    Attributes:
        trial: Its number.
        positions: In [0, 1] on each axis; None where the trial does not have the parameter.
        shade: Its score, 0 of the best to 1 of the worst trial; None: it was stopped early, and has none that stands
            beside the others'.
    """

    trial: int
    positions: tuple[float | None, ...]
    shade: float | None

    @property
    def gaps(self) -> list[list[int]]:
        """The pairs of axes between which the trial does not have the parameters."""
        present = [index for index, place in enumerate(self.positions) if place is not None]
        return [[before, after] for before, after in pairwise(present) if after - before > 1]


@dataclass(frozen=True)
class ParallelCoordinates:
    """Axes from left to right, the last one the score; lines in the order in which they are drawn: what was stopped
    early first, the best last.

    Attributes:
        measure: How the score is written.
    """

    measure: Measure
    axes: tuple[Axis, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class _Column:
    """An axis, and where the trials lie on it."""

    axis: Axis
    positions: tuple[float | None, ...]


def parallel_coordinates(study: StudyTable) -> ParallelCoordinates:
    """Returns an axis for each parameter (of cuts, one a cut) and the score, and a line for each trial that was
    complete or pruned.
    """
    trials = [trial for trial in study.trials if trial.metrics]
    last = [parameter.name.rpartition(".")[2] for parameter in study.parameters]
    columns: list[_Column] = []
    for parameter, short in zip(study.parameters, last, strict=True):
        label = short if last.count(short) == 1 else parameter.name
        columns += _columns(parameter, label, trials)
    measure = study.measures[SCORE]
    scores = _place_scores(trials, measure)
    columns.append(scores)
    shades = _shade(scores.positions, measure)
    lines = [
        Line(trial.number, tuple(column.positions[index] for column in columns), shades[index])
        for index, trial in enumerate(trials)
    ]
    ordered = sorted(lines, key=lambda line: -2.0 if line.shade is None else -line.shade)
    return ParallelCoordinates(measure, tuple(column.axis for column in columns), tuple(ordered))


def _columns(parameter: Parameter, label: str, trials: Sequence[Trial]) -> Iterator[_Column]:
    values = [trial.values.get(parameter.name) for trial in trials]
    distribution = parameter.distribution
    if isinstance(distribution, Cuts):
        yield from _place_cuts(parameter.name, trials)
    elif isinstance(distribution, Categorical):
        labels = sorted(distribution.values, key=_SWITCH.index) if set(distribution.values) <= {*_SWITCH} else None
        places = dict(zip(labels or distribution.values, _spread_evenly(len(distribution.values)), strict=True))
        marks = tuple((place, text) for text, place in places.items())
        yield _Column(Axis(label, marks), tuple(None if value is None else places.get(value) for value in values))
    elif isinstance(distribution, Number):
        positions = (None if value is None else _place(distribution, value) for value in values)
        yield _Column(Axis(label, ticks(distribution)), tuple(positions))


def _place_cuts(name: str, trials: Sequence[Trial]) -> Iterator[_Column]:
    """Yields a column a cut; its axis counts the units that lie before it."""
    positions = [trial.positions(name) for trial in trials]
    most = max((len(trial.units) for trial in trials), default=2) - 1
    span = max(1, most - 1)
    marks = tuple(((count - 1) / span, str(count)) for count in sorted({1, (most + 1) // 2, most}))
    for cut in range(max(map(len, positions), default=0)):
        places = tuple((each[cut] - 1) / span if cut < len(each) else None for each in positions)
        yield _Column(Axis(f"units before cut {cut + 1}", marks), places)


def _shade(places: Sequence[float | None], measure: Measure) -> list[float | None]:
    """Returns 0 for the best, wherever on the axis that is."""
    best = max((place for place in places if place is not None), default=0.0) if measure.higher_is_better else 0.0
    return [None if place is None else abs(place - best) for place in places]


def _place_scores(trials: Sequence[Trial], measure: Measure) -> _Column:
    """The last column; trials that were stopped early have no place on it."""
    scores = [measure.in_unit(trial.metrics[SCORE]) if trial.is_complete else None for trial in trials]
    present = [score for score in scores if score is not None]
    low, high = min(present, default=0.0), max(present, default=0.0)
    span = high - low or 1.0
    marks = tuple((place, f"{low + place * span:.3g}") for place in _spread_evenly(5 if high > low else 1))
    places = tuple(None if score is None else (score - low) / span for score in scores)
    return _Column(Axis(measure.axis, marks if present else ()), places)


def _spread_evenly(count: int) -> list[float]:
    return [index / max(1, count - 1) for index in range(count)]


def _place(distribution: Number, value: float) -> float:
    low, high, here = (_on_scale(distribution, number) for number in (distribution.low, distribution.high, value))
    return (here - low) / (high - low or 1.0)


def _on_scale(distribution: Number, value: float) -> float:
    if distribution.complement:
        return -math.log(max(1 - value, 1e-300))
    return math.log(value) if distribution.log else value


def ticks(distribution: Number) -> Ticks:
    """Returns the marks of a number's axis."""
    return tuple((_place(distribution, value), _write(value)) for value in _choose_marks(distribution))


def _choose_marks(distribution: Number) -> list[float]:
    """Returns the values with ticks: all of a few steps, else both ends and the middle of the scale, on a step."""
    low, high = distribution.low, distribution.high
    if distribution.complement:
        return [low, 1 - math.sqrt((1 - low) * (1 - high)), high]
    middle = math.sqrt(low * high) if distribution.log else (low + high) / 2
    step = distribution.step or (1 if distribution.integer else None)
    if step is None:
        return [low, middle, high]
    count = round((high - low) / step)
    if count < _MOST_TICKS and not distribution.log:
        return [low + step * index for index in range(count + 1)]
    return [low, low + step * round((middle - low) / step), high]


def _write(value: float) -> str:
    """Three digits, but all of a whole number, and of a value near 1 all that tell it from 1."""
    if isinstance(value, int) or float(value).is_integer():
        return f"{value:,.0f}"
    if 0.99 <= value < 1:
        return f"{value:.{min(6, 1 - math.floor(math.log10(1 - value)))}g}"
    return f"{value:.3g}"


def draw_parallel_coordinates(content: ParallelCoordinates) -> "Figure":
    """Draws an axis a parameter and a line a trial, coloured by score; what was stopped early in grey."""
    longest = max((len(text) for axis in content.axes[1:] for _, text in axis.ticks), default=0)
    axis_width = min(max(_AXIS_WIDTH, _LETTER_WIDTH * longest), _WIDEST_AXIS)  # texts do not run into the next axis
    (axes,) = make_panels(width=max(11.0, axis_width * len(content.axes)), height=5.4)
    for line in content.lines:
        _draw_line(axes, line)
    last = len(content.axes) - 1
    _draw_scale(axes, last, content.measure)
    for index, axis in enumerate(content.axes):
        _draw_axis(axes, index, axis, is_last=index == last)
    axes.set_title(_explain(content), fontsize=10)
    names = [escape_text(axis.label) for axis in content.axes]
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
    axes.tick_params(axis="x", length=0)
    axes.set_yticks([])
    axes.set_xlim(-0.4, len(names) - 0.4)
    axes.set_ylim(-0.04, 1.04)
    axes.spines[:].set_visible(False)
    return finish_figure([axes])


def _draw_line(axes: "Axes", line: Line) -> None:
    from matplotlib import colormaps

    heights = np.array([np.nan if place is None else place for place in line.positions], dtype=float)
    if line.shade is None:
        axes.plot(heights, color=GREY, linewidth=0.6, alpha=0.45, marker=".", markersize=2)
        return
    colour, width = colormaps[_COLOURS](_BRIGHTEST * line.shade), 2.6 if line.shade == 0 else 1.3
    axes.plot(heights, color=colour, linewidth=width, alpha=0.9, marker="o", markersize=3)
    for gap in line.gaps:
        axes.plot(gap, heights[gap], color=colour, linewidth=width, alpha=0.6, linestyle=":")


def _draw_axis(axes: "Axes", index: int, axis: Axis, *, is_last: bool) -> None:
    """Ticks stand on the left, where they lie on lines; those of the last axis on the right, where there are none."""
    if not is_last:
        axes.plot([index, index], [0, 1], color=DARK, linewidth=0.9, zorder=1)
    where = {"xytext": (7, 0), "ha": "left"} if is_last else {"xytext": (-4, 0), "ha": "right"}
    where |= {"textcoords": "offset points", "va": "center"}
    box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6}
    for place, text in axis.ticks:
        axes.annotate(escape_text(text), (index, place), fontsize=8, bbox=box, **where)


def _draw_scale(axes: "Axes", index: int, measure: Measure) -> None:
    """Paints the last axis in the colours of its scores."""
    from matplotlib import colormaps

    for low, high in pairwise(np.linspace(0, 1, 64)):
        colour = colormaps[_COLOURS](_BRIGHTEST * (1 - low if measure.higher_is_better else low))
        axes.plot([index, index], [low, high], color=colour, linewidth=6, zorder=1)


def _explain(content: ParallelCoordinates) -> str:
    lines, measure = content.lines, content.measure
    best = ", ".join(str(line.trial) for line in lines if line.shade == 0)
    extreme = "largest" if measure.higher_is_better else "smallest"
    parts = {
        f"thick: the {extreme} {measure.label} (trial {best})": bool(best),
        "dotted: past parameters that a trial does not have": any(
            line.shade is not None and line.gaps for line in lines
        ),
        "grey: stopped early": any(line.shade is None for line in lines),
    }
    return "; ".join(text for text, holds in parts.items() if holds)
