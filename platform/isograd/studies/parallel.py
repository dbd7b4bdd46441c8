"""Parallel coordinates of a study: an axis a parameter, a line a trial. What is drawn, not drawing it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from isograd.studies.study_plots import scaled
from isograd.studies.study_table import StudyTable, Trial
from isograd.tune.space import Categorical, Cuts, Number, Parameter

_SWITCH = ("false", "true")  # from the bottom up, in whatever order a space lists them
_MOST_TICKS = 6  # of steps, each with a tick up to so many


@dataclass(frozen=True)
class Axis:
    """Attributes:
    label: What it shows.
    ticks: (Position in [0, 1], text), from the bottom up.
    """

    label: str
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Line:
    """A trial.

    Attributes:
        trial: Its number.
        positions: In [0, 1] on each axis; None where the trial does not have the parameter.
        shade: Its test error, 0 of the best to 1 of the worst trial; None: it was stopped early, and has none that
            stands beside the others'.
    """

    trial: int
    positions: tuple[float | None, ...]
    shade: float | None


@dataclass(frozen=True)
class ParallelCoordinates:
    """Axes from left to right, the last one the test error; lines in the order in which they are drawn: what was
    stopped early first, the best last.
    """

    axes: tuple[Axis, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class _Column:
    """An axis, and where the trials lie on it."""

    axis: Axis
    positions: tuple[float | None, ...]


def parallel_coordinates(study: StudyTable) -> ParallelCoordinates:
    """Returns an axis for each parameter (of cuts, one a cut) and the test error, and a line for each trial that was
    complete or pruned.
    """
    trials = [trial for trial in study.trials if trial.metrics]
    names = _short_names([parameter.name for parameter in study.parameters])
    pairs = zip(study.parameters, names, strict=True)
    columns = [column for parameter, name in pairs for column in _columns(parameter, name, trials)]
    errors = _errors(trials)
    columns.append(errors)
    lines = [
        Line(trial.number, tuple(column.positions[index] for column in columns), errors.positions[index])
        for index, trial in enumerate(trials)
    ]
    ordered = sorted(lines, key=lambda line: -2.0 if line.shade is None else -line.shade)
    return ParallelCoordinates(tuple(column.axis for column in columns), tuple(ordered))


def _short_names(names: Sequence[str]) -> list[str]:
    """Returns the last part of each name, or all of it where two would be called the same."""
    last = [name.rpartition(".")[2] for name in names]
    return [short if last.count(short) == 1 else name for short, name in zip(last, names, strict=True)]


def _columns(parameter: Parameter, label: str, trials: Sequence[Trial]) -> Iterator[_Column]:
    values = [trial.values.get(parameter.name) for trial in trials]
    distribution = parameter.distribution
    if isinstance(distribution, Cuts):
        yield from _cuts(parameter.name, trials)
    elif isinstance(distribution, Categorical):
        labels = sorted(distribution.values, key=_SWITCH.index) if set(distribution.values) <= {*_SWITCH} else None
        places = dict(zip(labels or distribution.values, _spaced(len(distribution.values)), strict=True))
        marks = tuple((place, text) for text, place in places.items())
        yield _Column(Axis(label, marks), tuple(None if value is None else places.get(value) for value in values))
    elif isinstance(distribution, Number):
        positions = (None if value is None else _place(distribution, value) for value in values)
        yield _Column(Axis(label, ticks(distribution)), tuple(positions))


def _cuts(name: str, trials: Sequence[Trial]) -> Iterator[_Column]:
    """Yields a column a cut; its axis counts the units that lie before it."""
    positions = [trial.positions(name) for trial in trials]
    most = max((len(trial.units) for trial in trials), default=2) - 1
    for cut in range(max(map(len, positions), default=0)):
        found = (each[cut] if cut < len(each) else None for each in positions)
        places = tuple(None if place is None else (place - 1) / max(1, most - 1) for place in found)
        marks = tuple(((place - 1) / max(1, most - 1), str(place)) for place in sorted({1, (most + 1) // 2, most}))
        yield _Column(Axis(f"units before cut {cut + 1}", marks), places)


def _errors(trials: Sequence[Trial]) -> _Column:
    """The last column; trials that were stopped early have no place on it."""
    found = [scaled("test_error", trial.metrics["test_error"]) if trial.is_complete else None for trial in trials]
    present = [error for error in found if error is not None]
    low, high = min(present, default=0.0), max(present, default=0.0)
    span = high - low or 1.0
    marks = [(position, f"{low + position * span:.3g}") for position in _spaced(5 if high > low else 1)]
    places = tuple(None if error is None else (error - low) / span for error in found)
    return _Column(Axis("test error, %", tuple(marks) if present else ()), places)


def _spaced(count: int) -> list[float]:
    return [index / max(1, count - 1) for index in range(count)]


def _place(distribution: Number, value: float) -> float:
    low, high, here = (_on_scale(distribution, number) for number in (distribution.low, distribution.high, value))
    return (here - low) / (high - low or 1.0)


def _on_scale(distribution: Number, value: float) -> float:
    if distribution.complement:
        return -math.log(max(1 - value, 1e-300))
    return math.log(value) if distribution.log else value


def ticks(distribution: Number) -> tuple[tuple[float, str], ...]:
    """Returns the marks of a number's axis: (position in [0, 1], text)."""
    return tuple((_place(distribution, value), _text(value)) for value in _marked(distribution))


def _marked(distribution: Number) -> list[float]:
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


def _text(value: float) -> str:
    """Three digits, but all of a whole number, and of a value near 1 all that tell it from 1."""
    if isinstance(value, int) or float(value).is_integer():
        return f"{value:,.0f}"
    if 0.99 <= value < 1:
        return f"{value:.{min(6, 1 - math.floor(math.log10(1 - value)))}g}"
    return f"{value:.3g}"
