"""What travels from one local module to the next. Messages keep their order; each belongs to one step."""

from dataclasses import dataclass, replace
from enum import Enum

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

    def carrying(self, value: Tensor) -> "Message":
        """Returns the message for the next local module, with this one's output in place of its input."""
        return replace(self, value=value)

    def to(self, device: torch.device) -> "Message":
        """Returns the message with its tensors on ``device``."""
        if self.value is None or self.value.device == device:
            return self
        return replace(
            self,
            value=self.value.to(device, non_blocking=True),
            target=None if self.target is None else self.target.to(device, non_blocking=True),
            pixels=None if self.pixels is None else self.pixels.to(device, non_blocking=True),
        )
