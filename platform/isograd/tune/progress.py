"""What a person reads while a sweep runs: a line a trial, the best so far, the time left."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from isograd.system.console import clock, say
from isograd.tune.study import Assignment, Outcome, Study, outcome_of


@dataclass
class Best:
    """The best trial so far, or, of several objectives, the front.

    Attributes:
        objectives: What is minimised.
        values: Trial -> its values, of those that no other trial beats in all of them.
    """

    objectives: Sequence[str]
    values: dict[int, tuple[float, ...]] = field(default_factory=dict)

    def take(self, number: int, metrics: Mapping[str, float]) -> None:
        """Takes a complete trial."""
        found = tuple(metrics[name] for name in self.objectives)
        if any(_dominates(other, found) for other in self.values.values()):
            return
        kept = {trial: other for trial, other in self.values.items() if not _dominates(found, other)}
        if len(self.objectives) > 1 or found not in kept.values():
            self.values = {**kept, number: found}

    def __str__(self) -> str:
        if not self.values:
            return "none complete yet"
        if len(self.objectives) > 1:
            return f"front of {len(self.values)}: {', '.join(map(str, sorted(self.values)))}"
        ((number, (value,)),) = self.values.items()
        return f"best {shown(self.objectives[0], value)} (trial {number})"


def best_of(study: Study) -> Best:
    """Returns the best of a study's complete trials."""
    best = Best(study.request.sweep.objectives)
    for trial in study.trials:
        outcome = outcome_of(trial)
        if outcome is not None and outcome.kind == "complete":
            best.take(trial.number, outcome.metrics)
    return best


class Progress:
    """Prints a line for every trial that ends.

    Args:
        console: Where to.
        best: Of the trials so far.
        num_trials: Of the study.
        num_left: Of these, how many have no outcome yet.
    """

    def __init__(self, console: Console, best: Best, *, num_trials: int, num_left: int) -> None:
        self._console, self._best = console, best
        self._num_trials, self._num_left, self._num_ended = num_trials, num_left, 0
        self._started_s = time.monotonic()

    def ended(self, assignment: Assignment, outcome: Outcome) -> None:
        """Prints the line of a trial."""
        self._num_ended += 1
        self._num_left -= 1
        if outcome.kind == "complete":
            self._best.take(assignment.number, outcome.metrics)
        num_done, width = self._num_trials - self._num_left, len(str(self._num_trials))
        done = f"{num_done:>{width}}/{self._num_trials}  trial {assignment.number:<3} {outcome.kind:<8}"
        said = _said(outcome, self._best.objectives)
        line = f"{done}  {said}  | {self._best} | {clock(self._left_s())} left"
        say(self._console, line)

    def _left_s(self) -> float:
        return (time.monotonic() - self._started_s) / self._num_ended * self._num_left


def shown(name: str, value: float) -> str:
    """Returns a metric as text, with its unit."""
    if name.endswith("_error"):
        return f"{100 * value:.2f} %"
    return f"{value / 2**20:,.0f} MiB" if name.endswith("_bytes") else f"{value:,.2f} s"


def brief(settings: Mapping[str, Any]) -> str:
    """Returns settings in a line, by the last part of their names."""
    return " ".join(f"{name.rpartition('.')[2]}={_value(value)}" for name, value in settings.items())


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return ",".join(map(_value, value)) if isinstance(value, list) else str(value)


def _said(outcome: Outcome, objectives: Sequence[str]) -> str:
    if outcome.reason:
        return outcome.reason
    names = dict.fromkeys(("test_error", *objectives))
    figures = ", ".join(shown(name, outcome.metrics[name]) for name in names)
    return f"{figures} after epoch {outcome.epoch}, {outcome.metrics['wall_s']:.1f} s"


def _dominates(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return first != second and all(a <= b for a, b in zip(first, second, strict=True))
