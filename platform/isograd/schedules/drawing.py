"""A run's timeline beside its plan: the sentence that explains the difference, a trace for Perfetto, a picture."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from isograd.local.action import Span, Work
from isograd.schedules.timeline import Timeline, typical_s

_SAME = 0.01  # a difference below this share of the period is none
_COLOURS = {
    Work.INPUT: "#999999",
    Work.FORWARD: "#56B4E9",
    Work.CASCADE: "#E69F00",
    Work.CASCADE_BACKWARD: "#CC79A7",
    Work.LOSS: "#E69F00",
    Work.BACKWARD: "#0072B2",
    Work.INPUT_GRADIENT: "#0072B2",
    Work.WEIGHT_GRADIENT: "#009E73",
    Work.UPDATE: "#000000",
}
_SHOWN_BATCHES = 4


@dataclass(frozen=True)
class Beside:
    """A measured timeline beside the planned one, the same stages in both."""

    measured: Timeline
    planned: Timeline

    @cached_property
    def pace_setter(self) -> int:
        """The stage that works most of its time, as measured."""
        return max(range(len(self.measured.devices)), key=self.measured.busy_s)

    def sentence(self) -> str:
        """Says by how much the measured period differs from the planned one, and where that comes from."""
        measured_s, planned_s = self.measured.period_s, self.planned.period_s
        difference_s = measured_s - planned_s
        head = f"{_ms(measured_s)} a batch measured, {_ms(planned_s)} planned"
        if abs(difference_s) < _SAME * planned_s:
            return f"{head}: no difference worth explaining."
        word = "longer" if difference_s > 0 else "shorter"
        return f"{head}, {abs(difference_s) / planned_s:.1%} {word}: {'; '.join(self._causes())}."

    def _causes(self) -> Iterator[str]:
        stage = self.pace_setter
        works_s = self.measured.busy_s(stage) - self.planned.busy_s(stage)
        module, work, most_s = self._largest_change(stage)
        yield (
            f"stage {stage}, which sets the pace, works {_ms(abs(works_s))} {_more(works_s)} than planned "
            f"({work} of module {module}: {_ms(abs(most_s))} {_more(most_s)})"
        )
        stands_s = self.measured.idle_s(stage) - self.planned.idle_s(stage)
        wait, waited_s = self._longest_wait(stage)
        yield f"it stands still {_ms(abs(stands_s))} {_more(stands_s)}" + (
            f" (longest: {wait}, {_ms(waited_s)})" if waited_s else ""
        )

    def _largest_change(self, stage: int) -> tuple[int, Work, float]:
        measured, planned = typical_s(self.measured.devices[stage]), typical_s(self.planned.devices[stage])
        changes = {key: measured[key] - planned[key] for key in measured.keys() & planned.keys() if not key[0].is_wait}
        work, module, part = max(changes, key=lambda key: abs(changes[key]))
        return module, work, changes[work, module, part]

    def _longest_wait(self, stage: int) -> tuple[str, float]:
        waits = {work: self.measured.waited_s(stage, work) for work in Work if work.is_wait}
        longest = max(waits, key=lambda work: waits[work])
        return longest.value, waits[longest]

    def trace(self) -> dict[str, Any]:
        """Returns both as a trace in Chrome's JSON format, which Perfetto (ui.perfetto.dev) opens."""
        events = [*_events("measured", 1, self.measured), *_events("planned", 2, self.planned)]
        return {"traceEvents": events, "displayTimeUnit": "ms"}

    def draw(self, path: Path) -> None:
        """Draws some batches of both, one above the other, on the same scale."""
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch

        num_stages = len(self.measured.devices)
        figure = Figure(figsize=(11, 1.6 + 0.9 * num_stages), layout="constrained")
        axes = figure.subplots(2, 1, sharex=True)
        shown: set[Work] = set()
        for axis, title, timeline in zip(axes, ("measured", "planned"), (self.measured, self.planned), strict=True):
            for stage, spans in enumerate(timeline.steady(_SHOWN_BATCHES)):
                for span in spans:
                    shown.add(span.action.work)
                    left, width = 1e3 * span.start_s, 1e3 * span.duration_s
                    shade = 1.0 if span.action.step % 2 else 0.6
                    axis.barh(stage, width, left=left, height=0.8, color=_COLOURS[span.action.work], alpha=shade)
            axis.set_yticks(range(num_stages), [f"stage {stage}" for stage in range(num_stages)])
            axis.invert_yaxis()
            axis.set_title(f"{title}: {_ms(timeline.period_s)} a batch", loc="left")
            axis.spines[["top", "right"]].set_visible(False)
        axes[-1].set_xlabel("milliseconds; every other batch is paler")
        handles = [Patch(color=_COLOURS[work], label=work.value) for work in _COLOURS if work in shown]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
        figure.savefig(path, dpi=150)


def _events(name: str, process: int, timeline: Timeline) -> Iterator[dict[str, Any]]:
    origin_s = min((span.start_s for spans in timeline.devices for span in spans), default=0.0)
    yield {"ph": "M", "name": "process_name", "pid": process, "args": {"name": name}}
    for stage, spans in enumerate(timeline.devices):
        yield {"ph": "M", "name": "thread_name", "pid": process, "tid": stage, "args": {"name": f"stage {stage}"}}
        for span in spans:
            yield _event(span, process, stage, origin_s)


def _event(span: Span, process: int, stage: int, origin_s: float) -> dict[str, Any]:
    action = span.action
    return {
        "ph": "X",
        "name": f"{action.work} {action.module}",
        "cat": "wait" if action.work.is_wait else "work",
        "pid": process,
        "tid": stage,
        "ts": 1e6 * (span.start_s - origin_s),
        "dur": 1e6 * span.duration_s,
        "args": {"batch": action.step, "module": action.module, "part": action.part},
    }


def merged(stages: Sequence[tuple[Sequence[Span], float]]) -> Timeline:
    """Returns one timeline of stages that may run on several hosts.

    Args:
        stages: For each stage its spans, and what turns their times into seconds since the epoch.
    """
    return Timeline(
        tuple(
            tuple(Span(span.action, span.start_s + offset_s, span.end_s + offset_s) for span in spans)
            for spans, offset_s in stages
        )
    )


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.1f} ms"


def _more(seconds: float) -> str:
    return "more" if seconds >= 0 else "less"
