"""A stage as a Ray actor: a thin shell around :class:`~isograd.engine.stage.Stage`."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
import torch
from torch import Tensor

from isograd.channels import direct
from isograd.channels.channel import CHANNELS, Channel, Place, Way
from isograd.channels.delivery import Inbox, SendingOutbox
from isograd.channels.outbox import Nowhere, Outbox
from isograd.cluster.last_words import leave_last_words, no_exit
from isograd.engine.program import Program
from isograd.engine.stage import Stage
from isograd.events.events import Event

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
        leave_last_words()
        torch.set_num_threads(threads)
        self._device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
        self._depth = queue_depth
        self._inbox = Inbox()
        self._peers: list[Any] = []
        self._channel: Channel
        self._stage = build(self._device)

    def place(self, probes: bool) -> Place:
        """Returns where it is; with Ray's direct transports that it could use, if ``probes``."""
        gpu = ",".join(str(index) for index in ray.get_gpu_ids())
        offers = direct.offered(self._device) if probes else frozenset()
        return Place(ray.get_runtime_context().get_node_id(), gpu, offers)

    def meet(self, peers: list[Any], channel: str, places: Sequence[Place]) -> tuple[str, list[Way]]:
        """Tells the stage the actors of all stages, in order, and how to reach them.

        Returns:
            The address at which others reach it, and the ways along which it will send.
        """
        self._peers = peers
        self._channel = CHANNELS.get(channel)(places, self._device)
        return self._channel.listen(), [Way(self._stage.index, target) for target in self._targets()]

    def connect(self, ways: Sequence[Way], addresses: Sequence[str]) -> None:
        """Connects the stage with the others, which are told the same."""
        self._channel.connect(self._stage.index, ways, addresses)

    def run(self, program: Program | None, evaluation: bool, records_steps: bool) -> Iterator[Event]:
        """Works through a program (the first stage), or through what arrives; yields what happens."""
        outboxes = self._outboxes()
        self._stage.outbox = outboxes.pop(self._stage.index + 1, Nowhere())
        self._stage.upward.links = outboxes
        self._stage.records_steps = records_steps
        if program is None:
            messages = self._inbox.messages()
        else:
            messages = (program.evaluation if evaluation else program.messages)(self._device)
        with no_exit():
            yield from self._stage.run(messages)

    @ray.method(concurrency_group=RECEIVE)
    def deliver(self, sequence: int, parcel: Any) -> None:
        """Takes a message from the stage before; returns once the compute thread has it."""
        self._inbox.deliver(sequence, self._channel.receive(parcel))

    @ray.method(concurrency_group=RECEIVE_UPWARD)
    def deliver_upward(self, sequence: int, parcel: Any) -> None:
        """Takes what a later stage says, to be kept until it is needed; so a delivery never waits for its use.

        No more can pile up than this stage itself has asked for: a later stage never is ahead of an earlier one.
        """
        self._stage.upward.deliver(self._channel.receive(parcel))

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
        """Takes up another stage, whose modules have these states; without any, they begin anew."""
        self._stage = build(self._device)
        if states:
            self._stage.load_state({name: tensor for state in states for name, tensor in state.items()})

    def process_id(self) -> int:
        """Returns the actor's process."""
        return os.getpid()

    def _outboxes(self) -> dict[int, Outbox]:
        return {target: self._outbox(target) for target in self._targets()}

    def _outbox(self, target: int) -> Outbox:
        peer, own = self._peers[target], self._stage.index
        deliver = peer.deliver if target > own else peer.deliver_upward
        return SendingOutbox(self._channel.link(Way(own, target), deliver), self._depth, self._channel.staging)

    def _targets(self) -> list[int]:
        """The stages that this one sends to: the next one, and those before it that need gradients or weights."""
        own = self._stage.index
        modules = [learner.module for learner in self._stage.learners]
        return [*range(own + 1, len(self._peers))[:1], *self._stage.upward.targets(modules)]


def remote_class(queue_depth: int, *, direct_transport: bool) -> Any:
    """Returns the actor class with as many receiving threads as messages can be under way.

    Args:
        queue_depth: Those messages.
        direct_transport: Whether Ray's direct transport may be used; it costs the actor two threads.
    """
    groups = {RECEIVE: queue_depth, RECEIVE_UPWARD: 1}
    options: Any = {"max_restarts": 0, "max_task_retries": 0, "concurrency_groups": groups}
    if direct_transport:
        options["enable_tensor_transport"] = True
    return ray.remote(**options)(StageActor)
