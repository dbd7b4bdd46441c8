"""A stage as a Ray actor: a thin shell around :class:`~isograd.executor.stage.Stage`."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import ray
import torch
from torch import Tensor

from isograd.executor.channel import (
    ActorLink,
    Envelope,
    Inbox,
    SendingOutbox,
    UpwardLink,
    host_copy,
    open_envelope,
)
from isograd.executor.outbox import Nowhere, Outbox
from isograd.executor.program import Program
from isograd.executor.stage import Stage
from isograd.local.message import Message, Upward
from isograd.report.events import Event

StageBuilder = Callable[[torch.device], Stage]

RECEIVE, RECEIVE_UPWARD = "receive", "receive_upward"


class StageActor:
    """Hosts consecutive local modules.

    The main thread runs the stage; a group of threads takes deliveries from the stage before.

    Args:
        build: Makes the stage on the actor's device.
        threads: Of torch on the CPU.
        queue_depth: Messages that may be under way to the next stage.
    """

    def __init__(self, build: StageBuilder, threads: int, queue_depth: int) -> None:
        torch.set_num_threads(threads)
        self._device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
        self._depth = queue_depth
        self._inbox = Inbox()
        self._peers: list[Any] = []
        self._stage = build(self._device)

    def meet(self, peers: list[Any]) -> None:
        """Tells the stage the actors of all stages, in order."""
        self._peers = peers

    def run(self, program: Program | None, evaluation: bool, records_steps: bool) -> Iterator[Event]:
        """Works through a program (the first stage), or through what arrives; yields what happens."""
        self._stage.outbox = self._outbox()
        self._stage.upward.links = self._upward_links()
        self._stage.records_steps = records_steps
        if program is None:
            messages = self._inbox.messages()
        else:
            messages = (program.evaluation if evaluation else program.messages)(self._device)
        yield from self._stage.run(messages)

    @ray.method(concurrency_group=RECEIVE)
    def deliver(self, sequence: int, envelope: Envelope[Message]) -> None:
        """Takes a message from the stage before; returns once the compute thread has it."""
        self._inbox.deliver(sequence, envelope)

    @ray.method(concurrency_group=RECEIVE_UPWARD)
    def deliver_upward(self, envelope: Envelope[Upward]) -> None:
        """Takes what a later stage says; returns at once."""
        self._stage.upward.deliver(open_envelope(envelope))

    def loop(self, duration_s: float) -> float:
        """Trains on the last batch again and again, without communication; returns steps a second."""
        self._stage.outbox = Nowhere()
        return self._stage.loop(duration_s)

    def state(self) -> dict[str, Tensor]:
        """Returns the state of all its modules."""
        return self._stage.state()

    def check_state(self, state: dict[str, Tensor]) -> set[str]:
        """Returns the names that are its modules'. Raises CheckpointError where they do not fit."""
        return self._stage.check_state(state)

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Puts its modules into a state that has been checked."""
        self._stage.load_state(state)

    def module_state(self, index: int) -> dict[str, Tensor]:
        """Returns the state of one of its modules."""
        return self._stage.module_state(index)

    def rebuild(self, build: StageBuilder, *states: dict[str, Tensor]) -> None:
        """Takes up another stage, whose modules have these states."""
        self._stage = build(self._device)
        self._stage.load_state({name: tensor for state in states for name, tensor in state.items()})

    def process_id(self) -> int:
        """Returns the actor's process."""
        return os.getpid()

    def _outbox(self) -> Outbox:
        following = self._peers[self._stage.index + 1 :]
        if not following:
            return Nowhere()
        return SendingOutbox(ActorLink(following[0]), self._depth, host_copy(self._device))

    def _upward_links(self) -> dict[int, Outbox]:
        modules = [learner.module for learner in self._stage.learners]
        return {
            stage: SendingOutbox(UpwardLink(self._peers[stage]), self._depth, host_copy(self._device))
            for stage in self._stage.upward.targets(modules)
        }


def remote_class(queue_depth: int) -> Any:
    """Returns the actor class with as many receiving threads as messages can be under way."""
    groups = {RECEIVE: queue_depth, RECEIVE_UPWARD: 1}
    options: Any = {"max_restarts": 0, "max_task_retries": 0, "concurrency_groups": groups}
    return ray.remote(**options)(StageActor)
