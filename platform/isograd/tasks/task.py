"""The contract of a task: what is predicted of which data, its loss, and how a run is judged.

A task is one file: a registered class with a nested ``Config``. It knows no method, and methods know no task: every
auxiliary network that predicts comes from :meth:`Task.head`.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from isograd.data.batch import Batch, draw_batch
from isograd.data.field import Field, Fields, Kind, Tree
from isograd.errors import TaskError
from isograd.models.backbone import Feature
from isograd.registry import Registry


@dataclass(frozen=True)
class Score:
    """Which of a task's metrics judges a run.

    Attributes:
        metric: Its name among the metrics.
        unit: In which it is shown: ``%``, ``dB``, ``bits/byte``; empty where it has none.
        higher_is_better: Its direction.
        scale: Factor from its value to its unit.
        label: How it is called in tables and on axes.
    """

    metric: str
    unit: str
    higher_is_better: bool
    scale: float = 1.0
    label: str = ""

    def text(self, value: float | None, *, unit: bool = True) -> str:
        """Returns a value as it is shown, two digits behind the point; ``-`` for none."""
        if value is None:
            return "-"
        return f"{self.scale * value:.2f}{f' {self.unit}' if unit and self.unit else ''}"

    def best(self, values: Iterable[float]) -> float | None:
        """Returns the best of some values; None of none."""
        return (max if self.higher_is_better else min)(values, default=None)


@dataclass(frozen=True)
class Form:
    """Which auxiliary network a method asks a task for.

    Attributes:
        name: ``auto``, or one of the task's own forms.
        options: Of that form.
    """

    name: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Head:
    """A network that predicts from live values.

    Attributes:
        module: Takes the values that it reads, in order; returns what it writes, a tuple where that is several.
        reads: Names of live values.
        writes: Names of the task's outputs.
    """

    module: nn.Module
    reads: tuple[str, ...]
    writes: tuple[str, ...]


class Metrics(ABC):
    """Running sums over a split, kept where predictions are, so that no step waits for them.

    They are exact over stages, workers and checkpoints: sums of disjoint parts merge into the sums of the whole. What
    is more than a formula of sums is computed by a library in :meth:`compute`, off the hot path.

    Args:
        num_sums: How many sums there are.
        device: Where predictions are.
    """

    def __init__(self, num_sums: int, device: torch.device) -> None:
        self.sums = torch.zeros(num_sums, dtype=torch.float64, device=device)
        self.num_samples = 0

    def update(self, prediction: Tree, targets: Tree, size: int) -> None:
        """Adds ``size`` samples."""
        self.num_samples += size
        self.sums += self.measure(prediction, targets)

    def merge(self, other: "Metrics") -> None:
        """Adds the sums of another part of the split."""
        self.num_samples += other.num_samples
        self.sums += other.sums.to(self.sums.device)

    @abstractmethod
    def measure(self, prediction: Tree, targets: Tree) -> Tensor:
        """Returns what a batch adds. Shapes: -> (num_sums,) or ()."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Returns the metrics by name."""

    def state(self) -> list[float]:
        """Returns the sums, for a checkpoint in the middle of an epoch."""
        return [float(self.num_samples), *self.sums.tolist()]

    def load_state(self, state: Sequence[float]) -> None:
        """Takes up what :meth:`state` returned."""
        self.num_samples = int(state[0])
        self.sums.copy_(torch.tensor(state[1:], dtype=torch.float64))


class Task(ABC):
    """What a network is trained for: the objective of its output, and of every auxiliary network that predicts.

    Args:
        config: An instance of the class's own ``Config``.
        inputs: Fields of the data.
        targets: Fields of the data.

    Raises:
        TaskError: The data has no fields for it.

    Attributes:
        score: Which metric judges.
        output: Fields of what the backbone's last unit writes.
        knows_groups: Whether :meth:`groups` says which samples belong together.
        example: Options of a run of it that trains in seconds: the conformance tests train it by every method.
    """

    Config: ClassVar[type]
    knows_groups: ClassVar[bool] = False
    example: ClassVar[tuple[str, ...]] = ()
    score: Score
    output: Fields

    def __init__(self, config: Any, inputs: Fields, targets: Fields) -> None:
        self.config, self.inputs, self.targets = config, inputs, targets

    @abstractmethod
    def head(self, live: Mapping[str, Feature], form: Form) -> Head:
        """Builds an auxiliary network that predicts what the last unit does, from what is alive at a cut.

        Raises:
            UnknownNameError: The task has no such form.
            TaskError: What is alive cannot feed it.
        """

    @abstractmethod
    def loss(self, prediction: Tree, targets: Tree) -> tuple[Tensor, int | Tensor]:
        """Returns the mean loss, a scalar, and its weight: over how many terms it is a mean."""

    @abstractmethod
    def metrics(self, device: torch.device) -> Metrics:
        """Returns empty running sums of what a prediction is judged by."""

    def groups(self, targets: Tree) -> Tensor:
        """Returns which samples belong together, (B,), for contrastive losses; to be asked where it knows groups."""
        raise NotImplementedError

    @property
    def forms(self) -> Collection[str]:
        """Names of the forms that :meth:`head` knows; ``auto`` is one of them."""
        return ("auto",)

    def preferred(self, form: str) -> str:
        """Returns the form that a method's paper has, where the task has it; else ``auto``, the task's own."""
        return form if form in self.forms else "auto"

    def synthetic(self, size: int, generator: torch.Generator) -> Batch:
        """Returns a random batch of ``size`` samples: plans, costs, benchmarks and conformance tests train on it."""
        return draw_batch(self.inputs, self.targets, size, generator)


TASKS: Registry[type[Task]] = Registry("task", "isograd.tasks", "isograd.tasks")


def only_field(fields: Fields, kind: Kind, *, of: str, task: str) -> tuple[str, Field]:
    """Returns the single field of a kind.

    Args:
        fields: Of the data.
        kind: Which is needed.
        of: ``inputs`` or ``targets``.
        task: Name of the task that needs it.

    Raises:
        TaskError: There is none, or several.
    """
    matching = [(name, field) for name, field in fields.items() if field.kind == kind]
    if len(matching) == 1:
        return matching[0]
    known = ", ".join(f"{name} ({field.kind})" for name, field in fields.items()) or "none"
    raise TaskError(
        f"task={task} needs one field of kind '{kind}' among the data's {of}, which has {len(matching)}",
        f"The {of} are: {known}",
        f"Use another task, or a data set whose {of} have one.",
    )
