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

from isograd.data.batch import Batch, Split
from isograd.data.field import Tree

_PARTS = ("values", "targets", "inputs")


class Kind(Enum):
    """What a message asks of those who receive it."""

    TRAIN = "train"  # a batch to learn from
    EVALUATE = "evaluate"  # a batch to predict
    EPOCH = "epoch"  # the epoch's batches have passed: report what training measured
    EVALUATED = "evaluated"  # a split has passed: report what evaluating measured
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
        split: Which split the batch is of, or has passed.
        size: Samples of the batch, B; 0 without a batch.
        values: What is alive at the cut before the receiving local module, by name: the inputs as they are stored for
            the first one, activations for others.
        targets: What the batch is to be predicted as, by field.
        inputs: The inputs as they are stored, where the method's exchange includes them.
    """

    kind: Kind
    epoch: int
    number: int = 0
    step: int = 0
    split: Split = "train"
    size: int = 0
    values: Tree = field(default_factory=dict)
    targets: Tree = field(default_factory=dict)
    inputs: Tree = field(default_factory=dict)

    @staticmethod
    def of_batch(kind: Kind, batch: Batch, *, epoch: int, step: int, split: Split, carries_inputs: bool) -> "Message":
        """Returns the message that brings a batch to the first local module."""
        inputs = batch.inputs if carries_inputs else {}
        return Message(kind, epoch, batch.number, step, split, batch.size, batch.inputs, batch.targets, inputs)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Its tensors, by ``part/name``."""
        return {f"{part}/{name}": tensor for part in _PARTS for name, tensor in getattr(self, part).items()}

    def holding(self, tensors: Mapping[str, Tensor]) -> "Message":
        """Returns the message with these tensors, by ``part/name``, and no others."""
        parts: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
        for path, tensor in tensors.items():
            part, _, name = path.partition("/")
            parts[part][name] = tensor
        return replace(self, **parts)

    def carrying(self, values: Tree) -> "Message":
        """Returns the message for the next local module, with what is alive after this one."""
        return replace(self, values=values)

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
    tensors: Tree = field(default_factory=dict)

    def holding(self, tensors: Mapping[str, Tensor]) -> "Upward":
        """Returns the message with these tensors, and no others."""
        return Upward(self.key, self.step, tensors)

    def to(self, device: torch.device) -> "Upward":
        """Returns the message with its tensors on ``device``."""
        return _moved(self, device)


AnyMessage = TypeVar("AnyMessage", Message, Upward)


def _moved(message: AnyMessage, device: torch.device) -> AnyMessage:
    tensors = message.tensors
    if all(tensor.device == device for tensor in tensors.values()):
        return message
    return message.holding({name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()})


def gradient_key(origin: int) -> str:
    """Names the gradient, with respect to the receiver's output, of the cascade loss of module ``origin``."""
    return f"gradient/{origin}"


def weights_key(unit: str) -> str:
    """Names the weights of a unit as they were when the message's step began."""
    return f"weights/{unit}"
