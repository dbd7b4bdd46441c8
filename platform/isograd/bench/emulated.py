"""Emulated devices: stages that sleep instead of computing, and move real tensors.

A machine with few cores can so show what a pipeline's transport and scheduling cost with many devices. A stage sleeps a
third of its time as its forward pass, sends its activation, and sleeps two thirds as its backward pass. Everything else
is the engine's own: stage loop, queues, sender threads, object store, events.
"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from isograd.executor.outbox import Nowhere
from isograd.executor.stage import Stage
from isograd.local.action import Work, make_recorder
from isograd.local.message import Message


class EmulatedStage(Stage):
    """A stage without local modules. What it sends is a tensor of ``activation_bytes``.

    Args:
        device: As whom it works and for how long.
    """

    def __init__(self, device: "EmulatedBuilder") -> None:
        recorder = make_recorder(device.timeline, torch.device("cpu"))
        super().__init__(device.index, [], Nowhere(), device=torch.device("cpu"), recorder=recorder)
        self._emulated = device
        self._activation = torch.randn(device.activation_bytes // 4)

    def _train(self, message: Message) -> None:
        self._remember(message)
        self._sleep(Work.FORWARD, message, self._emulated.step_s / 3)
        with self.recorder.recording(Work.SEND, self.index, message.step):
            self._send(message.carrying(self._activation))
        self._sleep(Work.LOSS, message, self._emulated.auxiliary_s)
        self._sleep(Work.BACKWARD, message, 2 * self._emulated.step_s / 3)
        self._stepped(0)

    def _sleep(self, work: Work, message: Message, duration_s: float) -> None:
        with self.recorder.recording(work, self.index, message.step):
            time.sleep(duration_s)

    def state(self) -> dict[str, Tensor]:
        """Returns nothing: there are no weights."""
        return {}


@dataclass(frozen=True)
class EmulatedBuilder:
    """Builds an emulated stage in its actor.

    Attributes:
        index: Position in the pipeline, s.
        step_s: Time of a training step through its units.
        activation_bytes: Of what goes to the next stage.
        auxiliary_s: Time of its auxiliary network, after the send.
        timeline: How many of the newest steps it records.
    """

    index: int
    step_s: float
    activation_bytes: int
    auxiliary_s: float = 0.0
    timeline: int = 0

    def __call__(self, device: torch.device) -> Stage:
        """Builds the stage."""
        return EmulatedStage(self)
