"""What devices did when, measured or simulated, and what follows from it: period, bubble, utilisation."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from isograd.local.action import Span, Work


@dataclass(frozen=True)
class Timeline:
    """The spans of all devices.

    Attributes:
        devices: For each device its spans, in the order in which they ended; times in seconds of a common clock.
    """

    devices: tuple[tuple[Span, ...], ...]

    @cached_property
    def step_ends_s(self) -> list[list[float]]:
        """For each device, when it ended its work on each batch."""
        found: list[list[float]] = []
        for spans in self.devices:
            ends: dict[int, float] = {}
            for span in spans:
                if not span.action.work.is_wait and span.action.work is not Work.INPUT:
                    ends[span.action.step] = max(ends.get(span.action.step, 0.0), span.end_s)
            found.append([ends[step] for step in sorted(ends)])
        return found

    @property
    def period_s(self) -> float:
        """Seconds from batch to batch where the pipeline is full: over the second half of its batches, while all
        devices still have some.

        The device that ends its batches last counts: the last one of a pipeline of local learning.
        """
        horizon_s = min(ends[-1] for ends in self.step_ends_s if ends)
        last = max(self.step_ends_s, key=lambda ends: ends[-1] if ends else 0.0)
        full = [end_s for end_s in last if end_s <= horizon_s * (1 + 1e-9)]
        ends = full if len(full) > 3 else last
        first = len(ends) // 2
        if len(ends) - first < 2:
            return (last[-1] - min(span.start_s for spans in self.devices for span in spans)) / len(last)
        return (ends[-1] - ends[first]) / (len(ends) - 1 - first)

    def busy_s(self, device: int) -> float:
        """Returns the seconds a batch in which a device works, waits not counted."""
        spans = [span for span in self.devices[device] if not span.action.work.is_wait]
        steps = {span.action.step for span in spans}
        return sum(span.duration_s for span in spans) / len(steps) if steps else 0.0

    def idle_s(self, device: int) -> float:
        """Returns the seconds a batch in which a device does not work."""
        return max(self.period_s - self.busy_s(device), 0.0)

    def waited_s(self, device: int, work: Work) -> float:
        """Returns the seconds a batch of one kind of recorded wait."""
        spans = self.devices[device]
        steps = {span.action.step for span in spans}
        return sum(span.duration_s for span in spans if span.action.work is work) / max(len(steps), 1)

    def steady(self, num_batches: int) -> list[list[Span]]:
        """Returns, for each device, the work that falls into ``num_batches`` periods in the middle, from time 0."""
        ends = sorted(end_s for ends in self.step_ends_s for end_s in ends)
        start_s = ends[len(ends) // 2] - num_batches * self.period_s / 2
        return [
            [
                Span(
                    span.action,
                    max(span.start_s - start_s, 0.0),
                    min(span.end_s - start_s, num_batches * self.period_s),
                )
                for span in spans
                if not span.action.work.is_wait
                and span.end_s > start_s
                and span.start_s < start_s + num_batches * self.period_s
            ]
            for spans in self.devices
        ]

    def utilisation(self, device: int) -> float:
        """Returns the share of the period in which a device works."""
        return min(self.busy_s(device) / self.period_s, 1.0) if self.period_s else 0.0

    @property
    def bubble(self) -> float:
        """Share of all devices' time in which they do not work."""
        return 1 - sum(self.utilisation(device) for device in range(len(self.devices))) / len(self.devices)


def typical_s(spans: Sequence[Span]) -> dict[tuple[Work, int, int], float]:
    """Returns the median duration of each action over the batches, by its work, module and part."""
    found: dict[tuple[Work, int, int], list[float]] = {}
    for span in spans:
        found.setdefault((span.action.work, span.action.module, span.action.part), []).append(span.duration_s)
    return {key: median(durations) for key, durations in found.items()}
