"""Where events go: a file of JSON lines, and a person's terminal."""

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from isograd.events.events import EpochRecord, Event, Progress, Rebalanced, to_record
from isograd.events.json_lines import AppendedLines
from isograd.system.console import clock, say
from isograd.tasks.task import Score

_QUIET_S = 15.0  # where there is no bar, nobody waits longer for a sign of life


class Sink(Protocol):
    """Takes the events of a run, in order."""

    def take(self, event: Event) -> None:
        """Takes one event."""
        ...


class JsonLines(AppendedLines):
    """Appends events to a file, each with the time in seconds since the epoch; a context manager."""

    def take(self, event: Event) -> None:
        """Takes one event."""
        self.append({"time_s": round(time.time(), 3), **to_record(event)})


class Terminal:
    """Shows epoch, score, samples a second and time left: a bar on a terminal, lines elsewhere.

    Args:
        console: Where to.
        num_epochs: Of the run.
        num_steps: Of the run.
        first_step: Steps done before, by the run that is resumed.
        num_modules: K.
        last_stage: Index of the last stage, whose progress counts.
        score: By which the run is judged.
    """

    def __init__(
        self,
        console: Console,
        *,
        num_epochs: int,
        num_steps: int,
        first_step: int,
        num_modules: int,
        last_stage: int,
        score: Score,
    ) -> None:
        self._console, self._num_epochs, self._num_steps = console, num_epochs, num_steps
        self._first_step, self._num_modules, self._last_stage = first_step, num_modules, last_stage
        self._started_s = self._shown_s = time.monotonic()
        self._rate = 0.0
        self._step = first_step
        self._score = score
        self._scores: dict[tuple[int, str], dict[int, float | None]] = {}
        self._bar = Bar(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[num_epochs]}"),
            BarColumn(30),
            TextColumn(
                "step {task.completed}/{task.total}  {task.fields[rate]:,.0f} samples/s  {task.fields[left]} left"
            ),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._line = self._bar.add_task("", total=num_steps, epoch=1, num_epochs=num_epochs, rate=0.0, left="--:--")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def take(self, event: Event) -> None:
        """Takes one event."""
        if isinstance(event, Progress) and event.stage == self._last_stage:
            self._progress(event)
        elif isinstance(event, EpochRecord) and event.split != "train":
            self._evaluated(event)
        elif isinstance(event, Rebalanced):
            self._rebalanced(event)

    def _rebalanced(self, event: Rebalanced) -> None:
        before, after = ("+".join(map(str, sizes)) for sizes in (event.before, event.after))
        say(
            self._console,
            f"epoch {event.epoch:>3}/{self._num_epochs}  local modules moved: {before} a stage, now {after}; slowest "
            f"stage {1e3 * event.slowest_before_s:,.1f} ms a step, now {1e3 * event.slowest_after_s:,.1f} ms by its "
            "modules' times",
        )

    def _progress(self, event: Progress) -> None:
        self._step = event.step
        self._rate = event.num_samples / event.elapsed_s if event.elapsed_s else 0.0
        self._bar.update(
            self._line, completed=event.step, epoch=event.epoch, rate=self._rate, left=clock(self._left_s())
        )
        if not self._console.is_terminal and time.monotonic() - self._shown_s >= _QUIET_S:
            self._show(f"epoch {event.epoch:>3}/{self._num_epochs}  step {event.step:,}/{self._num_steps:,}")

    def _show(self, what: str) -> None:
        self._shown_s = time.monotonic()
        say(self._console, f"{what}  {self._rate:,.0f} samples/s  {clock(self._left_s())} left")

    def _evaluated(self, event: EpochRecord) -> None:
        scores = self._scores.setdefault((event.epoch, event.split), {})
        scores[event.module] = event.values.get(self._score.metric)
        if len(scores) < self._num_modules:
            return
        del self._scores[event.epoch, event.split]
        self._step = event.step
        final = scores.pop(self._num_modules - 1)
        heads = ", ".join(self._score.text(scores[module], unit=False) for module in sorted(scores))
        self._show(
            f"epoch {event.epoch:>3}/{self._num_epochs}  {event.split} {self._score.label} {self._score.text(final)}"
            + (f"  heads {heads}" if heads else "")
        )

    def _left_s(self) -> float:
        done = self._step - self._first_step
        return (time.monotonic() - self._started_s) / done * (self._num_steps - self._step) if done else 0.0
