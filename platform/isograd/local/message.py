"""What travels between local modules. Each message belongs to one step.

Downwards, from one module to the next, goes an ordered stream of :class:`Message`. Upwards, to earlier modules, go the
gradients and weights that some methods exchange, as :class:`Upward`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeVar

import torch
from torch import Tensor


class Kind(Enum):
    """What a message asks of those who receive it."""

    TRAIN = "train"  # a batch to learn from
    TEST = "test"  # a batch to predict
    TRAINED = "trained"  # the epoch's batches have passed: report training metrics
    TESTED = "tested"  # the test split has passed: report test metrics
    SNAPSHOT = "snapshot"  # report all state, as of this position
    END = "end"  # nothing follows


@dataclass(frozen=True)
class Message:
    """One item of the ordered stream through the local modules.

    Attributes:
        kind: What to do.
        epoch: From 1.
        number: Position of the batch within its epoch, from 0.
        step: Training steps taken before this message, over the whole run.
        value: Input of the receiving local module: (B, C, H, W) uint8 pixels for the first, an activation for others.
        target: What the batch is to be predicted as, (B, ...).
        pixels: The un-normalised image, (B, C, H, W) uint8, where the method's exchange includes it.
    """

    kind: Kind
    epoch: int
    number: int = 0
    step: int = 0
    value: Tensor | None = None
    target: Tensor | None = None
    pixels: Tensor | None = None

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name."""
        found = {"value": self.value, "target": self.target, "pixels": self.pixels}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def holding(self, tensors: Mapping[str, Tensor]) -> "Message":
        """Returns the message with these tensors, and no others."""
        return Message(self.kind, self.epoch, self.number, self.step, **tensors)

    def carrying(self, value: Tensor) -> "Message":
        """Returns the message for the next local module, with this one's output in place of its input."""
        return replace(self, value=value)

    def to(self, device: torch.device) -> "Message":
        """Returns the message with its tensors on ``device``."""
        return _moved(self, device)


@dataclass(frozen=True)
class Upward:
    """What a later local module tells an earlier one in one step: a gradient, or weights.

    Attributes:
        key: What it is: see :func:`gradient_key` and :func:`weights_key`.
        step: To which training step it belongs.
        tensors: By name.
    """

    key: str
    step: int
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def holding(self, tensors: Mapping[str, Tensor]) -> "Upward":
        """Returns the message with these tensors, and no others."""
        return Upward(self.key, self.step, tensors)

    def to(self, device: torch.device) -> "Upward":
        """Returns the message with its tensors on ``device``."""
        return _moved(self, device)


AnyMessage = TypeVar("AnyMessage", Message, Upward)


def _moved(message: AnyMessage, device: torch.device) -> AnyMessage:
    if all(tensor.device == device for tensor in message.tensors.values()):
        return message
    moved = {name: tensor.to(device, non_blocking=True) for name, tensor in message.tensors.items()}
    return message.holding(moved)


def gradient_key(origin: int) -> str:
    """Names the gradient, with respect to the receiver's output, of the cascade loss of module ``origin``."""
    return f"gradient/{origin}"


def weights_key(unit: str) -> str:
    """Names the weights of a unit as they were when the message's step began."""
    return f"weights/{unit}"
