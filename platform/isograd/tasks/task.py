"""What a network is trained for: the loss of its output, and what is counted to judge it."""

from typing import Protocol

from torch import Tensor

from isograd.registry import Registry


class Task(Protocol):
    """The objective of the last local module, and of every auxiliary network that predicts the task's target.

    Attributes:
        num_outputs: Width of a prediction (Y for classification).
    """

    num_outputs: int

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Returns the scalar loss, a mean over the batch."""
        ...

    def num_correct(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Returns how many samples are predicted rightly, a scalar on the prediction's device."""
        ...


TASKS: Registry[type] = Registry("task", "isograd.tasks", "isograd.tasks")
