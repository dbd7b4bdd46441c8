"""What is measured of a local module over a split, kept on its device so that no step waits for it."""

import torch
from torch import Tensor

from isograd.data.field import Tree
from isograd.tasks.task import Task


class Meter:
    """Running sums of a local module's loss and of its task's metrics.

    The loss stays None for a module that has none, and there are no metrics where it predicts nothing.

    Args:
        task: Whose metrics.
        device: Of the module.
    """

    def __init__(self, task: Task, device: torch.device) -> None:
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._weight: float | Tensor = 0
        self._has_loss = False
        self._metrics = task.metrics(device)
        self.num_samples = 0

    def add(self, size: int, loss: Tensor | None, weight: int | Tensor, prediction: Tree | None, targets: Tree) -> None:
        """Adds one batch of ``size`` samples; ``loss`` is a mean over ``weight`` terms."""
        self.num_samples += size
        if loss is not None:
            self._has_loss = True
            self._loss += loss.to(torch.float64) * weight
            self._weight = self._weight + weight
        if prediction is not None:
            self.measure(prediction, targets, size)

    def measure(self, prediction: Tree, targets: Tree, size: int) -> None:
        """Adds a prediction of ``size`` samples whose loss is added elsewhere."""
        self._metrics.update(prediction, targets, size)

    @property
    def loss(self) -> float | None:
        """Mean over all terms so far, or None."""
        return float(self._loss) / float(self._weight) if self._has_loss and float(self._weight) else None

    def values(self) -> dict[str, float]:
        """Returns the task's metrics by name; none where nothing was predicted."""
        return self._metrics.compute() if self._metrics.num_samples else {}

    def state(self) -> Tensor:
        """Returns the sums as one tensor, for a checkpoint in the middle of an epoch."""
        sums = [float(self._loss), float(self._weight), float(self._has_loss), float(self.num_samples)]
        return torch.tensor([*sums, *self._metrics.state()], dtype=torch.float64)

    def load_state(self, state: Tensor) -> None:
        """Takes up sums that :meth:`state` returned."""
        loss, weight, has_loss, num_samples, *metrics = state.tolist()
        self._loss.fill_(loss)
        self._weight, self._has_loss, self.num_samples = weight, bool(has_loss), int(num_samples)
        self._metrics.load_state(metrics)
