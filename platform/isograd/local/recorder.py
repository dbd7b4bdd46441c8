"""Records what a stage really does, and when: by the host's clock, or by events in a device's stream."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from isograd.local.action import Action, Span, Work


class Recorder:
    """Keeps the spans of a stage's newest steps.

    Args:
        num_steps: How many steps are kept, so that a long run needs no more memory than a short one.
    """

    def __init__(self, num_steps: int) -> None:
        self._num_steps = num_steps
        self._kept: deque[tuple[Action, Any, Any]] = deque()

    def mark(self) -> Any:
        """Returns the present moment."""
        return time.perf_counter()

    def note(self, start: Any, work: Work, module: int, step: int, part: int = 0) -> None:
        """Keeps an action that began at the mark ``start`` and ends now."""
        while self._kept and self._kept[0][0].step <= step - self._num_steps:
            self._kept.popleft()
        self._kept.append((Action(work, module, step, part), start, self.mark()))

    @contextmanager
    def recording(self, work: Work, module: int, step: int, part: int = 0) -> Iterator[None]:
        """Keeps the block as one action; one that raises is not kept."""
        start = self.mark()
        yield
        self.note(start, work, module, step, part)

    def spans(self) -> tuple[Span, ...]:
        """Returns what is kept, in the order in which it ended."""
        return tuple(Span(action, self._seconds(start), self._seconds(end)) for action, start, end in self._kept)

    def clear(self) -> None:
        """Forgets everything."""
        self._kept.clear()

    def _seconds(self, mark: Any) -> float:
        return mark


class DeviceRecorder(Recorder):
    """Times work on a GPU by events in its stream, since the host runs ahead of it.

    A wait of the host is timed the same way: it shows only where it let the device run dry.
    """

    def __init__(self, num_steps: int, device: torch.device) -> None:
        super().__init__(num_steps)
        self._device = device
        self._origin = self.mark()
        torch.cuda.synchronize(device)
        self._origin_s = time.perf_counter()

    def mark(self) -> torch.cuda.Event:
        """Returns an event that marks the present moment in the device's stream."""
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def spans(self) -> tuple[Span, ...]:
        """Waits for the device and returns what is kept."""
        torch.cuda.synchronize(self._device)
        return super().spans()

    def _seconds(self, mark: torch.cuda.Event) -> float:
        return self._origin_s + self._origin.elapsed_time(mark) / 1e3


class NoRecorder(Recorder):
    """Records nothing, at no cost worth speaking of."""

    def __init__(self) -> None:
        super().__init__(0)

    def mark(self) -> None:
        """Returns nothing."""

    def note(self, start: Any, work: Work, module: int, step: int, part: int = 0) -> None:
        """Keeps nothing."""

    def recording(self, work: Work, module: int, step: int, part: int = 0) -> AbstractContextManager[None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Keeps nothing."""
        return _NOTHING


_NOTHING = nullcontext()
UNRECORDED = NoRecorder()


def make_recorder(num_steps: int, device: torch.device) -> Recorder:
    """Returns what records ``num_steps`` steps on a device; 0 records nothing."""
    if not num_steps:
        return UNRECORDED
    return DeviceRecorder(num_steps, device) if device.type == "cuda" else Recorder(num_steps)
