"""A local module: some units of the backbone, and the objective that trains them.

It knows nothing of devices, processes or Ray.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from isograd.local.ema import EMA
from isograd.local.exchange import Window
from isograd.local.statistics import repeated, repeating
from isograd.models.backbone import Unit
from isograd.tasks.task import Task


@dataclass(frozen=True)
class Outcome:
    """What an objective says of one batch.

    Attributes:
        loss: Scalar, to be differentiated; None where there is nothing to learn from it.
        prediction: The task's prediction, (B, Y) logits, or None where the auxiliary network makes none.
    """

    loss: Tensor | None
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


class Silent(Objective):
    """No loss and no prediction: for a module that others train, or whose only loss is a cascade's."""

    def forward(self, feature: Tensor, target: Tensor, pixels: Tensor | None) -> Outcome:
        """Returns an outcome without loss."""
        return Outcome(None, None)

    def predict(self, feature: Tensor) -> None:
        """Predicts nothing."""


class Weighted(Objective):
    """Another objective, times a number."""

    def __init__(self, weight: float, objective: Objective) -> None:
        super().__init__()
        self.weight, self.objective = weight, objective

    def forward(self, feature: Tensor, target: Tensor, pixels: Tensor | None) -> Outcome:
        """Returns the other objective's outcome with its loss weighted."""
        outcome = self.objective(feature, target, pixels)
        return Outcome(None if outcome.loss is None else self.weight * outcome.loss, outcome.prediction)

    def predict(self, feature: Tensor) -> Tensor | None:
        """Returns the other objective's prediction."""
        return self.objective.predict(feature)


class Through(Objective):
    """An objective of what a network makes of the activation."""

    def __init__(self, network: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.network, self.objective = network, objective

    def forward(self, feature: Tensor, target: Tensor, pixels: Tensor | None) -> Outcome:
        """Returns the objective's outcome for the network's output."""
        return self.objective(self.network(feature), target, pixels)

    def predict(self, feature: Tensor) -> Tensor | None:
        """Returns the objective's prediction for the network's output."""
        return self.objective.predict(self.network(feature))


class LocalModule(nn.Module):
    """K of these make a network.

    Args:
        index: Position, from 0.
        units: A slice of the backbone.
        objective: Its local loss, which trains this module only.
        entry: What is done to the input first: normalisation in the first module, nothing elsewhere.
        cascade: A loss that trains this module and the ones before it that its window reaches.
        window: Which cascade losses train this module.
        num_passes: For each unit, how many forward passes its one pass stands for, as BatchNorm's running statistics
            and batch counters are concerned. Default: 1 each.
    """

    def __init__(
        self,
        index: int,
        units: Sequence[Unit],
        objective: Objective,
        entry: nn.Module | None = None,
        cascade: Objective | None = None,
        window: Window = Window(),  # noqa: B008
        num_passes: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.index, self.window = index, window
        self.unit_names = tuple(unit.name for unit in units)
        self.entry = nn.Identity() if entry is None else entry
        self.trunk = nn.Sequential(*(unit.module for unit in units))
        self.objective = objective
        self.cascade = Silent() if cascade is None else cascade
        counts = [1] * len(units) if num_passes is None else num_passes
        self._repeated = [
            found for unit, count in zip(units, counts, strict=True) for found in repeated(unit.module, count)
        ]

    @property
    def followers(self) -> list[EMA]:
        """Its averages of later modules' units."""
        return [part for part in self.modules() if isinstance(part, EMA)]

    @property
    def name(self) -> str:
        """The unit it ends with, which no other module ends with."""
        return self.unit_names[-1]

    def forward(self, value: Tensor) -> Tensor:
        """Returns h_k, the activation that the next module receives."""
        with repeating(self._repeated if self.training else ()):
            return self.trunk(self.entry(value))

    def predict(self, feature: Tensor) -> Tensor | None:
        """Returns the prediction of its auxiliary network, (B, Y), the cascade's first; None where it makes none."""
        prediction = self.cascade.predict(feature)
        return self.objective.predict(feature) if prediction is None else prediction

    def parts(self) -> Iterator[tuple[str, nn.Module]]:
        """Yields everything that holds state, under names that depend neither on K nor on the executor.

        ``backbone.layer1.0`` is a unit, ``auxiliary.layer1.0`` the objective of the module that ends there, and
        ``cascade.layer1.0`` its cascade's.
        """
        for name, unit in zip(self.unit_names, self.trunk, strict=True):
            yield f"backbone.{name}", unit
        yield f"auxiliary.{self.name}", self.objective
        yield f"cascade.{self.name}", self.cascade

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
