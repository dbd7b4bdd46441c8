"""A local module: some units of the backbone, and the objective that trains them.

It knows nothing of devices, processes or Ray.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from isograd.data.field import Tree
from isograd.local.ema import EMA
from isograd.local.exchange import Window
from isograd.local.statistics import repeated, repeating
from isograd.models.backbone import MAIN, Unit, run_unit
from isograd.tasks.task import Head, Task


@dataclass(frozen=True)
class Outcome:
    """What an objective says of one batch.

    Attributes:
        loss: Scalar, a mean, to be differentiated; None where there is nothing to learn from it.
        prediction: The task's, by output, or None where the auxiliary network makes none.
        weight: Over how many terms the loss is a mean.
    """

    loss: Tensor | None
    prediction: Tree | None
    weight: int | Tensor


@dataclass(frozen=True)
class Given:
    """What an objective is given beside the live values.

    Attributes:
        targets: By field.
        inputs: As they are stored, by field, where the method's exchange includes them.
        entering: What was alive before the local module, detached.
    """

    targets: Tree
    inputs: Tree = field(default_factory=dict)
    entering: Tree = field(default_factory=dict)


class Objective(nn.Module):
    """The local loss of a module, with the auxiliary network that it needs."""

    def forward(self, live: Tree, given: Given) -> Outcome:
        """Returns the loss of a batch.

        Args:
            live: What is alive after the local module, by name, (B, ...) each.
            given: Targets, and what else there is.
        """
        raise NotImplementedError

    def predict(self, live: Tree) -> Tree | None:
        """Returns the auxiliary network's prediction, by output, or None where it makes none."""
        raise NotImplementedError


class TaskObjective(Objective):
    """The task's own loss of a prediction. The last local module has it without a head: its units end in one.

    Args:
        task: The task.
        head: Predicts from live values.
    """

    def __init__(self, task: Task, head: Head | None = None) -> None:
        super().__init__()
        self.task = task
        self._reads, self._writes = ((), ()) if head is None else (head.reads, head.writes)
        self.head = nn.Identity() if head is None else head.module

    def forward(self, live: Tree, given: Given) -> Outcome:
        """Returns the task's loss of the head's prediction."""
        prediction = self.predict(live)
        loss, weight = self.task.loss(prediction, given.targets)
        return Outcome(loss, prediction, weight)

    def predict(self, live: Tree) -> Tree:
        """Returns the head's prediction."""
        return run_unit(self.head, self._reads, self._writes, live) if self._writes else live


class Silent(Objective):
    """No loss and no prediction: for a module that others train, or whose only loss is a cascade's."""

    def forward(self, live: Tree, given: Given) -> Outcome:
        """Returns an outcome without loss."""
        return Outcome(None, None, 0)

    def predict(self, live: Tree) -> None:
        """Predicts nothing."""


class Weighted(Objective):
    """Another objective, times a number."""

    def __init__(self, weight: float, objective: Objective) -> None:
        super().__init__()
        self.weight, self.objective = weight, objective

    def forward(self, live: Tree, given: Given) -> Outcome:
        """Returns the other objective's outcome with its loss weighted."""
        outcome = self.objective(live, given)
        loss = None if outcome.loss is None else self.weight * outcome.loss
        return Outcome(loss, outcome.prediction, outcome.weight)

    def predict(self, live: Tree) -> Tree | None:
        """Returns the other objective's prediction."""
        return self.objective.predict(live)


class Through(Objective):
    """An objective of what a network makes of the main value; other live values stay as they are."""

    def __init__(self, network: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.network, self.objective = network, objective

    def forward(self, live: Tree, given: Given) -> Outcome:
        """Returns the objective's outcome for the network's output."""
        return self.objective({**live, MAIN: self.network(live[MAIN])}, given)

    def predict(self, live: Tree) -> Tree | None:
        """Returns the objective's prediction for the network's output."""
        return self.objective.predict({**live, MAIN: self.network(live[MAIN])})


class Behind(nn.Sequential):
    """A network on a head's first value, and the head: 0 and 1 of the sequence."""

    def forward(self, value: Tensor, *others: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns what the head predicts."""
        network, head = self
        return head(network(value), *others)


class Trunk(nn.ModuleList):
    """Units in a row, over live values.

    Args:
        units: In order.
        leaving: Names of what is alive after the last one.
    """

    def __init__(self, units: Sequence[Unit], leaving: Sequence[str]) -> None:
        super().__init__(unit.module for unit in units)
        self._steps = [(unit.reads, unit.writes) for unit in units]
        self._alive = [frozenset(leaving)]
        for unit in reversed(units[1:]):
            self._alive.insert(0, self._alive[0] - set(unit.writes) | set(unit.reads))

    def forward(self, values: Tree) -> Tree:
        """Runs the units; a value is let go of after its last reader. Shapes: what enters -> what leaves."""
        for module, (reads, writes), alive in zip(self, self._steps, self._alive, strict=True):
            known = {**values, **run_unit(module, reads, writes, values)}
            values = {name: known[name] for name in known if name in alive}
        return values


class LocalModule(nn.Module):
    """K of these make a network.

    Args:
        index: Position, from 0.
        units: A slice of the backbone.
        objective: Its local loss, which trains this module only.
        entering: Names of what is alive before it.
        leaving: Names of what is alive after it.
        entry: What is done to each input first: normalisation in the first module, nothing elsewhere.
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
        *,
        entering: Sequence[str],
        leaving: Sequence[str],
        entry: Mapping[str, nn.Module] | None = None,
        cascade: Objective | None = None,
        window: Window = Window(),  # noqa: B008
        num_passes: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.index, self.window = index, window
        self.entering, self.leaving = tuple(entering), tuple(leaving)
        self.unit_names = tuple(unit.name for unit in units)
        self.entry = nn.ModuleDict(entry)
        self.trunk = Trunk(units, leaving)
        self.objective = objective
        self.cascade = Silent() if cascade is None else cascade
        counts = [1] * len(units) if num_passes is None else num_passes
        self._repeated = [
            layer for unit, count in zip(units, counts, strict=True) for layer in repeated(unit.module, count)
        ]

    @property
    def followers(self) -> list[EMA]:
        """Its averages of later modules' units."""
        return [part for part in self.modules() if isinstance(part, EMA)]

    @property
    def name(self) -> str:
        """The unit it ends with, which no other module ends with."""
        return self.unit_names[-1]

    def forward(self, values: Tree) -> Tree:
        """Returns h_k, what is alive after it, which the next module receives."""
        entered = {name: self.entry[name](value) if name in self.entry else value for name, value in values.items()}
        with repeating(self._repeated if self.training else ()):
            return self.trunk(entered)

    def predict(self, live: Tree) -> Tree | None:
        """Returns the prediction of its auxiliary network, the cascade's first; None where it makes none."""
        prediction = self.cascade.predict(live)
        return self.objective.predict(live) if prediction is None else prediction

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
