"""A local module: some units of the backbone, and the objective that trains them.

It knows nothing of devices, processes or Ray.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from isograd.models.backbone import Unit
from isograd.tasks.task import Task


@dataclass(frozen=True)
class Outcome:
    """What an objective says of one batch.

    Attributes:
        loss: Scalar, to be differentiated.
        prediction: The task's prediction, (B, Y) logits, or None where the auxiliary network makes none.
    """

    loss: Tensor
    prediction: Tensor | None


class Objective(nn.Module):
    """The local loss of a module, with the auxiliary network that it needs."""

    def forward(self, feature: Tensor, target: Tensor, pixels: Tensor | None) -> Outcome:
        """Returns the loss of a batch.

        Shapes:
            feature: Output of the local module, (B, ...).
            target: (B, ...).
            pixels: (B, C, H, W) uint8, where the method's exchange has ``input``; else None.
        """
        raise NotImplementedError

    def predict(self, feature: Tensor) -> Tensor | None:
        """Returns the auxiliary network's prediction, (B, Y), or None where it makes none."""
        raise NotImplementedError


class TaskObjective(Objective):
    """The task's own loss on a prediction. The last local module has it without a head: its units end in one.

    Args:
        task: The task.
        head: Maps the feature to a prediction.
    """

    def __init__(self, task: Task, head: nn.Module | None = None) -> None:
        super().__init__()
        self.task = task
        self.head = nn.Identity() if head is None else head

    def forward(self, feature: Tensor, target: Tensor, pixels: Tensor | None) -> Outcome:
        """Returns the task's loss of the head's prediction."""
        prediction = self.head(feature)
        return Outcome(self.task.loss(prediction, target), prediction)

    def predict(self, feature: Tensor) -> Tensor:
        """Returns the head's prediction, (B, Y)."""
        return self.head(feature)


class LocalModule(nn.Module):
    """K of these make a network.

    Args:
        index: Position, from 0.
        units: A slice of the backbone.
        objective: Its local loss.
        entry: What is done to the input first: normalisation in the first module, nothing elsewhere.
    """

    def __init__(self, index: int, units: Sequence[Unit], objective: Objective, entry: nn.Module | None = None) -> None:
        super().__init__()
        self.index = index
        self.unit_names = tuple(unit.name for unit in units)
        self.entry = nn.Identity() if entry is None else entry
        self.trunk = nn.Sequential(*(unit.module for unit in units))
        self.objective = objective

    @property
    def name(self) -> str:
        """The unit it ends with, which no other module ends with."""
        return self.unit_names[-1]

    def forward(self, value: Tensor) -> Tensor:
        """Returns h_k, the activation that the next module receives."""
        return self.trunk(self.entry(value))

    def parts(self) -> Iterator[tuple[str, nn.Module]]:
        """Yields everything that holds state, under names that depend neither on K nor on the executor.

        ``backbone.layer1.0`` is a unit, ``auxiliary.layer1.0`` the objective of the module that ends there.
        """
        for name, unit in zip(self.unit_names, self.trunk, strict=True):
            yield f"backbone.{name}", unit
        yield f"auxiliary.{self.name}", self.objective

    def named_state(self) -> dict[str, Tensor]:
        """Returns all persistent parameters and buffers by their global names; the tensors themselves, not copies."""
        return {
            f"{prefix}.{name}": tensor
            for prefix, part in self.parts()
            for name, tensor in part.state_dict(keep_vars=True).items()
        }

    def named_weights(self) -> dict[str, nn.Parameter]:
        """Returns all parameters by their global names."""
        return {f"{prefix}.{name}": weight for prefix, part in self.parts() for name, weight in part.named_parameters()}
