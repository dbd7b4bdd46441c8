"""The contract of a local-learning method, and its registry.

A method is one file: a class with a nested ``Config`` dataclass and :meth:`Method.objective`. Configuration, command
line, checkpoints, both executors and the conformance tests take it from there::

    @METHODS.register("mine")
    class Mine(Method):
        @dataclass
        class Config:
            name: str = "mine"
            weight: float = 1.0

        def objective(self, partition, index):
            return TaskObjective(self.task, self.task.head(partition.live(index), Form()))
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from isograd.data.dataset import Dataset
from isograd.local.exchange import Exchange, Window, window
from isograd.local.module import LocalModule, Objective, TaskObjective
from isograd.models.backbone import Backbone
from isograd.models.layers import is_normalised
from isograd.models.resnet_cifar import draw_convolutions
from isograd.partition.partition import Partition
from isograd.registry import Registry
from isograd.seeding import seeded
from isograd.tasks.task import Task


@dataclass
class MethodConfig:
    """What every method's ``Config`` has: its name."""

    name: str = ""


class Method(ABC):
    """Turns a partition into local modules.

    Args:
        config: An instance of the class's own ``Config``.
        task: What the network is trained for.
        dataset: What it is trained on: its fields, and how they enter the network.

    Attributes (a class's, or properties where they depend on its configuration):
        default_num_modules: K where the user names none.
        default_table: The published cut table where the user names none.
        max_num_modules: Greatest K, or None.
    """

    Config: ClassVar[type] = MethodConfig
    default_num_modules: int = 4
    default_table: str = "infopro"
    max_num_modules: int | None = None

    def __init__(self, config: Any, task: Task, dataset: Dataset) -> None:
        self.config, self.task, self.dataset = config, task, dataset

    @property
    def exchange(self) -> Exchange:
        """What crosses a cut beyond live values and targets."""
        return Exchange()

    def arrange(self, partition: Partition) -> Partition:
        """Returns the partition that is trained: by default the one that was asked for."""
        return partition

    @abstractmethod
    def objective(self, partition: Partition, index: int) -> Objective:
        """Builds the local objective of module ``index``, which is not the last."""

    def last_objective(self, partition: Partition) -> Objective:
        """Builds the objective of the last module: the task's loss of the network's own output."""
        return TaskObjective(self.task)

    def cascade(self, partition: Partition, index: int) -> Objective | None:
        """Builds the objective that trains module ``index`` and those before it that it reaches; None: there is none.

        It is asked for the last module as well.
        """
        return None

    def reach(self, partition: Partition, index: int) -> int:
        """Returns how many modules the cascade loss of module ``index`` trains, itself included."""
        return 1

    def num_passes(self, partition: Partition, index: int) -> list[int]:
        """Returns, for each unit of a module, how many forward passes of the paper's code its one pass stands for."""
        return [1] * len(partition.units(index))

    def follows(self, partition: Partition, index: int) -> tuple[str, ...]:
        """Returns the units of later modules whose weights module ``index`` averages (its :class:`EMA` parts)."""
        return ()

    def fold(self, backbone: Backbone) -> Backbone:
        """Returns a trained network as it is used for inference: by default as it was trained."""
        return backbone

    def check_pieces(self, partition: Partition) -> None:
        """Checks the cuts by which an executor spreads a network that is trained as a whole over processes.

        Raises:
            PartitionError: One of them separates units that share weights, or compute with each other's.
        """
        partition.check_weights()

    def initialise(self, objective: nn.Module, partition: Partition, index: int) -> None:
        """Draws the initial weights of a new objective, from the module's own stream of random numbers.

        Beside a network without normalisation it keeps PyTorch's own, smaller ones, as that network itself does.
        """
        if is_normalised(partition.backbone):
            draw_convolutions(objective)

    def local_module(self, partition: Partition, index: int, seed: int) -> LocalModule:
        """Builds one local module. Its initial weights depend on ``seed`` and on unit names only."""
        units, last = partition.units(index), partition.is_last(index)
        with seeded(seed, "auxiliary", units[-1].name):
            objective = self.last_objective(partition) if last else self.objective(partition, index)
            self.initialise(objective, partition, index)
        with seeded(seed, "cascade", units[-1].name):
            cascade = self.cascade(partition, index)
            if cascade is not None:
                self.initialise(cascade, partition, index)
        entry = {name: self.dataset.entry(name) for name in self.dataset.inputs} if index == 0 else None
        return LocalModule(
            index,
            units,
            objective,
            entering=list(partition.entering(index)),
            leaving=list(partition.live(index)),
            entry=entry,
            cascade=cascade,
            window=self.window(partition, index),
            num_passes=self.num_passes(partition, index),
        )

    def window(self, partition: Partition, index: int) -> Window:
        """Returns which cascade losses train module ``index``."""
        return window(index, partition.num_modules, lambda origin: self.reach(partition, origin))

    def local_modules(self, partition: Partition, seed: int, indices: Iterable[int] | None = None) -> list[LocalModule]:
        """Builds the modules at ``indices``, by default all K."""
        chosen = range(partition.num_modules) if indices is None else indices
        return [self.local_module(partition, index, seed) for index in chosen]


METHODS: Registry[type[Method]] = Registry("method", "isograd.methods", "isograd.methods")
