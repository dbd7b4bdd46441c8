"""A stage as a Ray actor: a thin shell around :class:`~isograd.executor.stage.Stage`."""

import os
from collections.abc import Iterator
from typing import Any

import ray
import torch
from torch import Tensor

from isograd.executor.blueprint import Blueprint
from isograd.executor.channel import ActorLink, Envelope, Inbox, SendingOutbox, host_copy
from isograd.executor.program import Program
from isograd.executor.stage import Nowhere, Outbox, Stage
from isograd.report.events import Event

RECEIVE, CONTROL = "receive", "control"


class StageActor:
    """Hosts consecutive local modules.

    Three groups of threads serve it: the main one runs the stage, ``receive`` takes deliveries from the stage before,
    ``control`` answers the driver meanwhile.

    Args:
        blueprint: Builds the local modules.
        index: Position in the pipeline, s.
        modules: Indices of its local modules.
        queue_depth: Messages that may be under way to the next stage.
    """

    def __init__(self, blueprint: Blueprint, index: int, modules: range, queue_depth: int) -> None:
        config = blueprint.config.executor
        torch.set_num_threads(config.threads)
        self.device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
        self._depth = queue_depth
        self._inbox = Inbox()
        self._next: Any = None
        self._stage = Stage(
            index,
            blueprint.learners(modules, self.device),
            Nowhere(),
            event_interval_s=config.event_interval_s,
        )

    def prepare(self, following: Any, state: dict[str, Tensor] | None) -> str:
        """Tells the stage whom it sends to, and which state to start from. Returns its device."""
        self._next = following
        if state is not None:
            self._stage.load_state(state)
        return str(self.device)

    def run(self, program: Program | None, evaluation: bool, records_steps: bool) -> Iterator[Event]:
        """Works through a program (the first stage), or through what arrives; yields what happens."""
        self._stage.outbox = self._outbox()
        self._stage.records_steps = records_steps
        if program is None:
            messages = self._inbox.messages()
        else:
            messages = (program.evaluation if evaluation else program.messages)(self.device)
        yield from self._stage.run(messages)
        self._inbox = Inbox()

    @ray.method(concurrency_group=RECEIVE)
    def deliver(self, sequence: int, envelope: Envelope) -> None:
        """Takes a message from the stage before; returns once the compute thread has it."""
        self._inbox.deliver(sequence, envelope)

    @ray.method(concurrency_group=CONTROL)
    def ready(self) -> int:
        """Returns the process id, once the stage has been built."""
        return os.getpid()

    def state(self) -> dict[str, Tensor]:
        """Returns the state of all its modules."""
        return self._stage.state()

    def _outbox(self) -> Outbox:
        if self._next is None:
            return Nowhere()
        return SendingOutbox(ActorLink(self._next), self._depth, host_copy(self.device))


def remote_class(queue_depth: int) -> Any:
    """Returns the actor class with as many receiving threads as messages can be under way."""
    return ray.remote(max_restarts=0, max_task_retries=0, concurrency_groups={RECEIVE: queue_depth, CONTROL: 1})(
        StageActor
    )
