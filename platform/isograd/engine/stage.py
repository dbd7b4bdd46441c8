"""A stage: the loop that takes messages, trains its local modules, and hands activations on.

It knows neither processes nor Ray. The sequential executor runs one stage with all modules, the pipelined one an actor
a stage.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from isograd.channels.outbox import Outbox
from isograd.data.field import Tree
from isograd.engine.loop import StageLoop
from isograd.engine.upward import Routes, UpwardExchange
from isograd.events.events import (
    EpochRecord,
    Event,
    Position,
    Snapshot,
    StageReport,
    StageTimeline,
)
from isograd.events.metrics import Meter
from isograd.local.action import Work
from isograd.local.learner import Learner
from isograd.local.message import Kind, Message
from isograd.local.module import LocalModule
from isograd.local.recorder import UNRECORDED, Recorder
from isograd.local.state import check_state, load_state, state_of
from isograd.local.step import Step, predict_head, predict_step


class Stage(StageLoop):
    """Consecutive local modules in one process.

    Args:
        index: Position in the pipeline, s.
        learners: Its modules, in order.
        outbox: Leads to the next stage.
        device: Of its modules.
        routes: Where weights go that later modules share with earlier ones.
        event_interval_s: Least time between two progress events.
        records_steps: Whether the report lists when each step ended.
        recorder: Times what the stage does.
    """

    def __init__(
        self,
        index: int,
        learners: Sequence[Learner],
        outbox: Outbox,
        *,
        device: torch.device,
        routes: Routes = Routes(),  # noqa: B008
        event_interval_s: float = 0.5,
        records_steps: bool = False,
        recorder: Recorder = UNRECORDED,
    ) -> None:
        super().__init__(index, device, event_interval_s, records_steps)
        self.learners, self.outbox = list(learners), outbox
        self.upward = UpwardExchange(index, routes, device)
        self.recorder = recorder
        self._meters = [Meter(learner.task, device) for learner in learners]
        self._last: Message | None = None
        self._has_started = False

    def _reset(self) -> None:
        super()._reset()
        self._has_started = False
        self.upward.mailbox.wait_s = 0.0
        self.recorder.clear()

    def _end(self) -> Iterator[Event]:
        self.outbox.close()
        for outbox in self.upward.links.values():
            outbox.close()
        spans = self.recorder.spans()
        if spans:
            yield StageTimeline(self.index, spans, time.time() - time.perf_counter())

    def _received(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Yields the messages, and records how long each batch took to come: to be made, or to arrive."""
        work, module = (Work.RECEIVE if self.index else Work.INPUT), self._first_module
        iterator, start = iter(messages), self.recorder.mark()
        for message in iterator:
            if message.kind is Kind.TRAIN:
                self.recorder.note(start, work, module, message.step)
            yield message
            start = self.recorder.mark()

    @property
    def _first_module(self) -> int:
        return self.learners[0].module.index if self.learners else self.index

    def prime(self, message: Message, gradients: Mapping[int, Tree]) -> None:
        """Gives the stage a batch to :meth:`loop` on without having run.

        Args:
            message: A training batch with the stage's input.
            gradients: For each module of later stages whose cascade loss reaches this stage, the gradient with respect
                to its output.
        """
        self._last = message
        self.upward.assume(gradients)

    def loop(self, duration_s: float) -> float:
        """Trains on the last batch again and again, sending to the outbox; returns steps a second.

        It measures what this stage could do with input always there. Weights change: discard them afterwards.
        """
        if self._last is None:
            raise AssertionError("a stage can only loop after it has trained on a batch")
        self._num_samples = self._num_steps = 0
        started_s = time.perf_counter()
        with self.upward.replaying():
            while (elapsed_s := time.perf_counter() - started_s) < duration_s:
                self._train(self._last)
        return self._num_steps / elapsed_s

    def state(self) -> dict[str, Tensor]:
        """Returns the state of all modules, running metrics included."""
        state: dict[str, Tensor] = {}
        for learner, meter in zip(self.learners, self._meters, strict=True):
            state |= self._state_of(learner, meter)
        return state

    def module_state(self, index: int) -> dict[str, Tensor]:
        """Returns the state of local module ``index``, which it hosts, running metrics included."""
        position = [learner.module.index for learner in self.learners].index(index)
        return self._state_of(self.learners[position], self._meters[position])

    def check_state(self, state: dict[str, Tensor]) -> set[str]:
        """Returns the names in ``state`` that are this stage's. Raises CheckpointError where they do not fit."""
        own = {_metrics_key(learner) for learner in self.learners}
        for learner in self.learners:
            own |= check_state(learner, state) | self.upward.pending_names(learner.module, state)
        return own

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Puts all modules into a state that has been checked. What it lacks of optimizer and metrics begins anew."""
        for position, learner in enumerate(self.learners):
            load_state(learner, state)
            self.upward.load_pending(learner.module, state)
            self._meters[position] = Meter(learner.task, self.device)
            metrics = state.get(_metrics_key(learner))
            if metrics is not None:
                self._meters[position].load_state(metrics)

    def _train(self, message: Message) -> None:
        self._set_training(True)
        self._remember(message)
        self._start(message)
        step_number = message.step
        batch = _Batch(message, {})
        for position, learner in enumerate(self.learners):
            self.upward.publish(learner.module, step_number)
            step = batch.steps[position] = Step(learner, message, self.recorder)
            message = message.carrying(step.forward())
            if position == len(self.learners) - 1:
                with self.recorder.recording(Work.SEND, learner.module.index, step_number):
                    self._send(message)
            with self.recorder.recording(Work.AWAIT, learner.module.index, step_number):
                self.upward.absorb(learner.module, step_number)
            gradient = step.cascade()
            if gradient is not None:
                self._pass_up(batch, position - 1, learner.module.index, gradient)
            step.local()
            self._update_complete(batch, position)
        for origin in self._awaited_origins():
            with self.recorder.recording(Work.AWAIT, self.learners[-1].module.index, step_number, origin):
                gradient = self.upward.gradient(origin, step_number)
            self._pass_up(batch, len(self.learners) - 1, origin, gradient)
        self._stepped(message.size)

    def _pass_up(self, batch: "_Batch", position: int, origin: int, gradient: Tree) -> None:
        """Gives a gradient to the module at ``position``, and on to the modules before it as far as it reaches."""
        if position < 0:
            return self.upward.send_gradient(origin, batch.message.step, gradient)
        passed = batch.steps[position].take(origin, gradient)
        if passed is not None:
            self._pass_up(batch, position - 1, origin, passed)
        self._update_complete(batch, position)

    def _update_complete(self, batch: "_Batch", position: int) -> None:
        """Updates a module that has all its gradients, and lets go of its graph."""
        if batch.steps[position].is_complete:
            learner, message = self.learners[position], batch.message
            with self.recorder.recording(Work.UPDATE, learner.module.index, message.step):
                outcome = batch.steps.pop(position).update()
                self._meters[position].add(
                    message.size, outcome.loss, outcome.weight, outcome.prediction, message.targets
                )

    def _awaited_origins(self) -> list[int]:
        """The later stages' modules whose cascade losses train this stage's last module, in order."""
        return list(self.learners[-1].module.window.passes)

    def _send(self, message: Message) -> None:
        self._clock.blocking(self.outbox.send, message)

    def _remember(self, message: Message) -> None:
        if self.records_steps:
            self._last = message

    def _start(self, message: Message) -> None:
        if not self._has_started:
            self._has_started = True
            self.upward.start([learner.module for learner in self.learners], message.step)

    def _predict(self, message: Message) -> None:
        self._set_training(False)
        for position, (learner, meter) in enumerate(zip(self.learners, self._meters, strict=True)):
            live = predict_step(learner, message)
            message = message.carrying(live)
            if position == len(self.learners) - 1:
                self._send(message)
            meter.add(message.size, None, 0, predict_head(learner, live), message.targets)

    def _state_of(self, learner: Learner, meter: Meter) -> dict[str, Tensor]:
        metrics = {_metrics_key(learner): meter.state()}
        return state_of(learner) | self.upward.pending(learner.module) | metrics

    def _trained_parts(self) -> Iterator[nn.Module]:
        return (learner.module for learner in self.learners)

    def _marker(self, message: Message) -> Iterator[Event]:
        self._clock.blocking(self.outbox.send, message)
        for learner in self.learners:
            learner.finite.flush()
            if self._has_started:
                self.upward.settle(learner.module, message.step)
        if message.kind in (Kind.EPOCH, Kind.EVALUATED):
            yield from self._records(message)
        elif message.kind is Kind.SNAPSHOT:
            position = Position(message.epoch, message.number, message.step)
            yield self._report_so_far(position)
            for learner, meter in zip(self.learners, self._meters, strict=True):
                yield Snapshot(learner.module.index, position, self._state_of(learner, meter))

    def _records(self, message: Message) -> Iterator[EpochRecord]:
        for position, learner in enumerate(self.learners):
            meter, self._meters[position] = self._meters[position], Meter(learner.task, self.device)
            yield record_epoch(message, learner.module, meter)

    def _report(self) -> StageReport:
        elapsed_s = time.perf_counter() - self._clock.started_s
        wait_s = self._clock.wait_s + self.upward.mailbox.wait_s
        blocked_s = self._clock.blocked_s
        return self._report_of(
            tuple(learner.module.index for learner in self.learners),
            elapsed_s=elapsed_s,
            wait_s=wait_s,
            blocked_s=blocked_s,
            busy_s=elapsed_s - wait_s - blocked_s,
            sent_bytes=self.outbox.sent_bytes + sum(link.sent_bytes for link in self.upward.links.values()),
        )


@dataclass(frozen=True)
class _Batch:
    """A batch, and the steps on it that still wait for a gradient, by their module's position in the stage."""

    message: Message
    steps: dict[int, Step]


def record_epoch(message: Message, module: LocalModule, meter: Meter) -> EpochRecord:
    """Returns what a meter holds of a module at the end of the split that a marker names."""
    loss = meter.loss if message.split == "train" else None
    return EpochRecord(
        message.epoch,
        message.split,
        module.index,
        loss,
        meter.values(),
        message.step,
        module.name,
        meter.num_samples,
    )


def _metrics_key(learner: Learner) -> str:
    return f"metrics.{learner.module.name}"
