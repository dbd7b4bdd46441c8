"""The loop over messages of any process that trains: its clock, its progress and its report."""

import resource
import time
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from isograd.events.events import Event, Position, Progress, ReportSoFar, StageReport
from isograd.local.message import Kind, Message


@dataclass
class Clock:
    """Where a stage's time goes, in seconds."""

    started_s: float = 0.0
    wait_s: float = 0.0
    blocked_s: float = 0.0
    train_s: float = 0.0

    def waiting(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Yields the messages; time spent getting them counts as waiting, from the second one on."""
        iterator = iter(messages)
        message = next(iterator, None)
        self.started_s = time.perf_counter()
        turn_started_s = self.started_s
        while message is not None:
            yield message
            worked_s = time.perf_counter()
            if message.kind is Kind.TRAIN:
                self.train_s += worked_s - turn_started_s
            turn_started_s = worked_s
            message = next(iterator, None)
            self.wait_s += time.perf_counter() - worked_s

    def blocking(self, send: Callable[[Message], None], message: Message) -> None:
        """Sends a message; the time it takes counts as blocked."""
        before = time.perf_counter()
        send(message)
        self.blocked_s += time.perf_counter() - before


class StageLoop(ABC):
    """Works through messages, whatever a training step is.

    Args:
        index: Position in the pipeline, s.
        device: Of its modules.
        event_interval_s: Least time between two progress events.
        records_steps: Whether the report lists when each step ended.
    """

    def __init__(self, index: int, device: torch.device, event_interval_s: float, records_steps: bool = False) -> None:
        self.index, self.device, self.records_steps = index, device, records_steps
        self._event_interval_s = event_interval_s
        self._training: bool | None = None
        self._clear()

    def run(self, messages: Iterable[Message]) -> Iterator[Event]:
        """Works through messages to the last one, yielding what happens."""
        self._reset()
        last_event_s = 0.0
        for message in self._clock.waiting(self._received(messages)):
            message = message.to(self.device)
            if message.kind is Kind.TRAIN:
                self._train(message)
                if time.perf_counter() - last_event_s >= self._event_interval_s:
                    last_event_s = time.perf_counter()
                    yield self._progress(message)
            elif message.kind is Kind.EVALUATE:
                self._predict(message)
            else:
                yield from self._marker(message)
        yield from self._end()
        yield self._report()

    @abstractmethod
    def _train(self, message: Message) -> None:
        """Takes a training step on a batch."""

    @abstractmethod
    def _predict(self, message: Message) -> None:
        """Counts what is predicted of a batch."""

    @abstractmethod
    def _marker(self, message: Message) -> Iterator[Event]:
        """Does what a message without a batch asks for."""

    @abstractmethod
    def _trained_parts(self) -> Iterator[nn.Module]:
        """Returns what knows whether it is trained or evaluated."""

    @abstractmethod
    def _report(self) -> StageReport:
        """Returns where the time went since the loop began."""

    def _received(self, messages: Iterable[Message]) -> Iterable[Message]:
        return messages

    def _end(self) -> Iterator[Event]:
        return iter(())

    def _reset(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._clock, self._num_samples, self._num_steps = Clock(), 0, 0
        self._step_ends_s = array("d")

    def _stepped(self, num_samples: int) -> None:
        self._num_steps += 1
        self._num_samples += num_samples
        if self.records_steps:
            self._step_ends_s.append(time.perf_counter())

    def _set_training(self, training: bool) -> None:
        if self._training is not training:
            self._training = training
            for part in self._trained_parts():
                part.train(training)

    def _progress(self, message: Message) -> Progress:
        elapsed_s = time.perf_counter() - self._clock.started_s
        return Progress(self.index, message.epoch, message.step + 1, self._num_samples, elapsed_s)

    def _report_so_far(self, position: Position) -> ReportSoFar:
        return ReportSoFar(position, replace(self._report(), step_ends_s=()))

    def _report_of(
        self,
        modules: tuple[int, ...],
        *,
        elapsed_s: float,
        wait_s: float,
        blocked_s: float,
        busy_s: float,
        sent_bytes: int,
    ) -> StageReport:
        return StageReport(
            stage=self.index,
            modules=modules,
            device=str(self.device),
            num_steps=self._num_steps,
            num_samples=self._num_samples,
            elapsed_s=elapsed_s,
            train_s=self._clock.train_s,
            wait_s=wait_s,
            blocked_s=blocked_s,
            busy_s=busy_s,
            peak_bytes=peak_bytes(self.device),
            sent_bytes=sent_bytes,
            step_ends_s=tuple(self._step_ends_s),
        )


def peak_bytes(device: torch.device) -> int:
    """Returns the largest memory so far: allocated on a GPU, else resident in this process (Linux counts kilobytes)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
