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
            feature = partition.units(index)[-1].output
            return TaskObjective(self.task, auto(feature, self.task.num_outputs))
"""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, ClassVar

from isograd.data.transforms import Normalize
from isograd.local.exchange import Exchange
from isograd.local.module import LocalModule, Objective, TaskObjective
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
        normalize: From pixels to the network's input, and back.

    Attributes:
        exchange: What crosses a cut beyond activation and target.
        default_num_modules: K where the user names none.
        max_num_modules: Greatest K, or None.
    """

    Config: ClassVar[type] = MethodConfig
    exchange: ClassVar[Exchange] = Exchange()
    default_num_modules: ClassVar[int] = 4
    max_num_modules: ClassVar[int | None] = None

    def __init__(self, config: Any, task: Task, normalize: Normalize) -> None:
        self.config, self.task, self.normalize = config, task, normalize

    @abstractmethod
    def objective(self, partition: Partition, index: int) -> Objective:
        """Builds the local objective of module ``index``, which is not the last."""

    def last_objective(self, partition: Partition) -> Objective:
        """Builds the objective of the last module: the task's loss of the network's own output."""
        return TaskObjective(self.task)

    def local_module(self, partition: Partition, index: int, seed: int) -> LocalModule:
        """Builds one local module. Its initial weights depend on ``seed`` and on unit names only."""
        units = partition.units(index)
        with seeded(seed, "auxiliary", units[-1].name):
            last = partition.is_last(index)
            objective = self.last_objective(partition) if last else self.objective(partition, index)
            draw_convolutions(objective)
        return LocalModule(index, units, objective, self.normalize if index == 0 else None)

    def local_modules(self, partition: Partition, seed: int, indices: Iterable[int] | None = None) -> list[LocalModule]:
        """Builds the modules at ``indices``, by default all K."""
        chosen = range(partition.num_modules) if indices is None else indices
        return [self.local_module(partition, index, seed) for index in chosen]


def _discover() -> None:
    """Imports every file of the package ``methods``, and the entry points ``isograd.methods`` of other packages."""
    import methods

    for module in pkgutil.iter_modules(methods.__path__):
        importlib.import_module(f"methods.{module.name}")
    for entry_point in entry_points(group="isograd.methods"):
        METHODS.add(entry_point.name, entry_point.load())


METHODS: Registry[type[Method]] = Registry("method", _discover)
