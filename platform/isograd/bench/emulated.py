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
from isograd.local.message import Message


class EmulatedStage(Stage):
    """A stage without local modules. What it sends is a tensor of ``activation_bytes``.

    Args:
        index: Position in the pipeline, s.
        step_s: Time of a training step.
        activation_bytes: Of what goes to the next stage.
    """

    def __init__(self, index: int, step_s: float, activation_bytes: int) -> None:
        super().__init__(index, [], Nowhere(), device=torch.device("cpu"))
        self._step_s = step_s
        self._activation = torch.randn(activation_bytes // 4)

    def _train(self, message: Message) -> None:
        self._remember(message)
        time.sleep(self._step_s / 3)
        self._clock.blocking(self.outbox.send, message.carrying(self._activation))
        time.sleep(2 * self._step_s / 3)
        self._stepped(0)

    def state(self) -> dict[str, Tensor]:
        """Returns nothing: there are no weights."""
        return {}


@dataclass(frozen=True)
class EmulatedBuilder:
    """Builds an emulated stage in its actor."""

    index: int
    step_s: float
    activation_bytes: int

    def __call__(self, device: torch.device) -> Stage:
        """Builds the stage."""
        return EmulatedStage(self.index, self.step_s, self.activation_bytes)
