"""What a device does in a step, as values: planned in a schedule, simulated, and recorded while a stage really runs."""

from enum import StrEnum
from typing import NamedTuple


class Work(StrEnum):
    """Kinds of actions."""

    INPUT = "input"  # the first stage makes a batch: reading, decoding, augmenting
    FORWARD = "forward"  # through the units
    CASCADE = "cascade loss"  # forward and backward of its auxiliary network
    CASCADE_BACKWARD = "cascade backward"  # through the units; the part is the module whose loss it is
    LOSS = "local loss"  # forward and backward of its auxiliary network
    BACKWARD = "backward"  # through the units
    INPUT_GRADIENT = "input gradient"  # the half of a backward pass that the piece before waits for
    WEIGHT_GRADIENT = "weight gradient"  # the other half
    UPDATE = "update"  # of the weights
    RECEIVE = "wait for input"
    AWAIT = "wait for upward exchange"
    SEND = "wait to send"

    @property
    def is_wait(self) -> bool:
        """Whether the device stands still."""
        return self in (Work.RECEIVE, Work.AWAIT, Work.SEND)


class Action(NamedTuple):
    """One piece of work.

    Attributes:
        work: What is done.
        module: The local module, or the piece of an end-to-end pipeline, that it is done for.
        step: The batch: training steps before it.
        part: Within the batch: the module whose cascade loss it is, or the microbatch.
    """

    work: Work
    module: int
    step: int
    part: int = 0

    def __str__(self) -> str:
        return f"{self.work} of module {self.module} on batch {self.step}" + (
            f", part {self.part}" if self.part else ""
        )


class Span(NamedTuple):
    """An action with its time, in seconds of a clock that all stages share."""

    action: Action
    start_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        """How long it took."""
        return self.end_s - self.start_s
