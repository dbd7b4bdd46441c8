"""A stage: the loop that takes messages, trains its local modules, and hands activations on.

It knows neither processes nor Ray. The sequential executor runs one stage with all modules, the pipelined one an actor
a stage.
"""

import resource
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from isograd.local.message import Kind, Message
from isograd.local.state import load_state, state_of
from isograd.local.step import Learner, predict_step, train_step
from isograd.report.events import Event, ModuleMetrics, Position, Progress, Snapshot, StageReport
from isograd.report.metrics import Meter


class Outbox(Protocol):
    """Where a stage puts what the next one shall receive."""

    sent_bytes: int

    def send(self, message: Message) -> None:
        """Takes a message; waits while the queue is full. The message's tensors must not change afterwards."""
        ...

    def close(self) -> None:
        """Returns once everything has been delivered."""
        ...


class Nowhere:
    """The outbox of the last stage."""

    sent_bytes = 0

    def send(self, message: Message) -> None:
        """Drops the message."""
        pass

    def close(self) -> None:
        """Does nothing."""
        pass


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


class Stage:
    """Consecutive local modules in one process.

    Args:
        index: Position in the pipeline, s.
        learners: Its modules, in order.
        outbox: Leads to the next stage.
        device: Of its modules.
        event_interval_s: Least time between two progress events.
        records_steps: Whether the report lists when each step ended.
    """

    def __init__(
        self,
        index: int,
        learners: Sequence[Learner],
        outbox: Outbox,
        *,
        device: torch.device,
        event_interval_s: float = 0.5,
        records_steps: bool = False,
    ) -> None:
        self.index, self.learners, self.outbox = index, list(learners), outbox
        self.device = device
        self._event_interval_s, self.records_steps = event_interval_s, records_steps
        self._meters = [Meter(self.device) for _ in learners]
        self._training: bool | None = None
        self._last: Message | None = None
        self._clock, self._num_images, self._num_steps = Clock(), 0, 0
        self._step_ends_s = array("d")

    def run(self, messages: Iterable[Message]) -> Iterator[Event]:
        """Works through messages to the last one, yielding what happens."""
        self._clock, self._num_images, self._num_steps = Clock(), 0, 0
        self._step_ends_s, last_event_s = array("d"), 0.0
        for message in self._clock.waiting(messages):
            message = message.to(self.device)
            if message.kind is Kind.TRAIN:
                self._train(message)
                if time.perf_counter() - last_event_s >= self._event_interval_s:
                    last_event_s = time.perf_counter()
                    yield self._progress(message)
            elif message.kind is Kind.TEST:
                self._predict(message)
            else:
                self._clock.blocking(self.outbox.send, message)
                yield from self._marker(message)
        self.outbox.close()
        yield self._report()

    def loop(self, duration_s: float) -> float:
        """Trains on the last batch again and again, sending to the outbox; returns steps a second.

        It measures what this stage could do with input always there. Weights change: discard them afterwards.
        """
        if self._last is None:
            raise AssertionError("a stage can only loop after it has trained on a batch")
        self._num_images = self._num_steps = 0
        started_s = time.perf_counter()
        while (elapsed_s := time.perf_counter() - started_s) < duration_s:
            self._train(self._last)
        return self._num_steps / elapsed_s

    def state(self) -> dict[str, Tensor]:
        """Returns the state of all modules, running metrics included."""
        state: dict[str, Tensor] = {}
        for learner, meter in zip(self.learners, self._meters, strict=True):
            state |= _state_of(learner, meter)
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Puts all modules into a saved state. Raises CheckpointError where it does not fit."""
        for learner, meter in zip(self.learners, self._meters, strict=True):
            load_state(learner, state)
            metrics = state.get(f"metrics.{learner.module.name}")
            if metrics is not None:
                meter.load_state(metrics)

    def _train(self, message: Message) -> None:
        self._set_training(True)
        self._remember(message)
        assert message.target is not None
        size = message.target.shape[0]
        for learner, meter in zip(self.learners, self._meters, strict=True):
            leaving = _Leaving(message, self._forward_to_next if learner is self.learners[-1] else None)
            outcome = train_step(learner, message, leaving)
            meter.add(size, outcome.loss, _num_correct(learner, outcome.prediction, message))
            message = leaving.message
        self._stepped(size)

    def _remember(self, message: Message) -> None:
        if self.records_steps:
            self._last = message

    def _stepped(self, num_images: int) -> None:
        self._num_steps += 1
        self._num_images += num_images
        if self.records_steps:
            self._step_ends_s.append(time.perf_counter())

    def _predict(self, message: Message) -> None:
        self._set_training(False)
        assert message.target is not None
        size = message.target.shape[0]
        for learner, meter in zip(self.learners, self._meters, strict=True):
            leaving = _Leaving(message, self._forward_to_next if learner is self.learners[-1] else None)
            prediction = predict_step(learner, message, leaving)
            meter.add(size, None, _num_correct(learner, prediction, message))
            message = leaving.message

    def _forward_to_next(self, message: Message) -> None:
        self._clock.blocking(self.outbox.send, message)

    def _set_training(self, training: bool) -> None:
        if self._training is not training:
            self._training = training
            for learner in self.learners:
                learner.module.train(training)

    def _marker(self, message: Message) -> Iterator[Event]:
        for learner in self.learners:
            learner.finite.flush()
        if message.kind is Kind.TRAINED:
            yield from self._metrics("train", message)
        elif message.kind is Kind.TESTED:
            yield from self._metrics("test", message)
        elif message.kind is Kind.SNAPSHOT:
            position = Position(message.epoch, message.number, message.step)
            for learner, meter in zip(self.learners, self._meters, strict=True):
                yield Snapshot(learner.module.index, position, _state_of(learner, meter))

    def _metrics(self, split: str, message: Message) -> Iterator[Event]:
        for position, learner in enumerate(self.learners):
            meter, self._meters[position] = self._meters[position], Meter(self.device)
            yield ModuleMetrics(
                split,
                message.epoch,
                message.step,
                learner.module.index,
                learner.module.name,
                meter.num_images,
                meter.loss if split == "train" else None,
                meter.accuracy,
            )

    def _progress(self, message: Message) -> Progress:
        elapsed_s = time.perf_counter() - self._clock.started_s
        return Progress(self.index, message.epoch, message.step + 1, self._num_images, elapsed_s)

    def _report(self) -> StageReport:
        elapsed_s = time.perf_counter() - self._clock.started_s
        return StageReport(
            self.index,
            tuple(learner.module.index for learner in self.learners),
            str(self.device),
            self._num_steps,
            self._num_images,
            elapsed_s,
            self._clock.train_s,
            self._clock.wait_s,
            self._clock.blocked_s,
            elapsed_s - self._clock.wait_s - self._clock.blocked_s,
            peak_bytes(self.device),
            self.outbox.sent_bytes,
            tuple(self._step_ends_s),
        )


class _Leaving:
    """Keeps what leaves a local module, as the message for the next one; passes it on where that is another stage."""

    def __init__(self, message: Message, onward: Callable[[Message], None] | None) -> None:
        self.message, self._onward = message, onward

    def __call__(self, activation: Tensor) -> None:
        self.message = self.message.carrying(activation)
        if self._onward is not None:
            self._onward(self.message)


def _state_of(learner: Learner, meter: Meter) -> dict[str, Tensor]:
    return state_of(learner) | {f"metrics.{learner.module.name}": meter.state()}


def _num_correct(learner: Learner, prediction: Tensor | None, message: Message) -> Tensor | None:
    if prediction is None or message.target is None:
        return None
    return learner.task.num_correct(prediction, message.target)


def peak_bytes(device: torch.device) -> int:
    """Returns the largest memory so far: allocated on a GPU, else resident in this process (Linux counts kilobytes)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
