"""The recipe by which any process builds its local modules: the same ones, whichever process builds them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from isograd.data.dataset import Dataset, dataset_of
from isograd.engine.check import check
from isograd.engine.config import RunConfig
from isograd.engine.upward import Routes
from isograd.errors import PartitionError
from isograd.local.learner import Learner, check_precision, make_learner
from isograd.local.method import METHODS, Method
from isograd.local.module import LocalModule
from isograd.local.weightless import weightless
from isograd.models.backbone import MODELS, Backbone
from isograd.partition.partition import Partition, PartitionRule, Published
from isograd.tasks.task import TASKS, Task


@dataclass(frozen=True)
class Blueprint:
    """Builds backbone, partition and learners from a configuration. Picklable; what it builds is not sent.

    Raises:
        ConfigError: An option has a value that no run can have.
    """

    config: RunConfig

    def __post_init__(self) -> None:
        check(self.config)

    @cached_property
    def backbone(self) -> Backbone:
        """The whole network, with initial weights that depend on the seed only."""
        config = self.config
        return MODELS.get(config.model.name).build(
            config.model, inputs=self.dataset.inputs, outputs=self.task.output, seed=config.seed
        )

    @cached_property
    def dataset(self) -> Dataset[Any]:
        """What it is trained on."""
        return dataset_of(self.config.data)

    @cached_property
    def task(self) -> Task:
        """What it is trained for."""
        return task_of(self.config)

    @cached_property
    def method(self) -> Method:
        """The local-learning method."""
        config = self.config
        return METHODS.get(config.method.name)(config.method, self.task, self.dataset)

    @cached_property
    def partition(self) -> Partition:
        """The cuts, and what is cut: a method may change both."""
        partition = self.method.arrange(self.rule.cut(self.backbone, self.num_modules))
        partition.check_weights()
        return partition

    @property
    def rule(self) -> PartitionRule:
        """What chooses the cuts; a published table, where none is named, is the method's."""
        rule = self.config.partition
        if isinstance(rule, Published) and rule.table is None:
            return replace(rule, table=self.method.default_table)
        return rule

    @property
    def num_modules(self) -> int:
        """K as asked for: by the partition's options, or else the method's default."""
        rule, method = self.config.partition, self.method
        asked = rule.num_modules
        if asked is None:
            ends = getattr(rule, "ends", None)
            asked = len(ends) + 1 if ends else method.default_num_modules
        if method.max_num_modules is not None and asked > method.max_num_modules:
            raise PartitionError(
                f"method '{self.config.method.name}' cannot have {asked} local modules",
                f"It has no cut that isolates gradients; its K is at most {method.max_num_modules}",
                f"Use partition.num_modules={method.max_num_modules}, or another method.",
            )
        return asked

    def routes(self, stages: Sequence[range]) -> Routes:
        """Returns where weights go that modules share with earlier ones, by which modules each stage hosts."""
        followers: dict[str, tuple[int, ...]] = {}
        for module in range(self.partition.num_modules):
            for unit in self.method.follows(self.partition, module):
                followers[unit] = (*followers.get(unit, ()), module)
        stage_of = tuple(stage for stage, modules in enumerate(stages) for _ in modules)
        return Routes(followers, stage_of)

    def queued_bytes(self, stages: Sequence[range], num_messages: int) -> int:
        """Returns what the queues between stages hold at most: float32 activations, targets and, where needed, inputs.

        Args:
            stages: Which modules each of them hosts.
            num_messages: In one queue.
        """
        partition, batch_size = self.partition, self.config.data.batch_size
        sample = self.task.synthetic(1, torch.Generator())
        extra = sum(tensor.nbytes for tree in (sample.inputs, sample.targets) for tensor in tree.values())
        cuts = [partition.live(modules[-1]).values() for modules in stages[:-1]]
        numels = [sum(feature.numel for feature in alive) for alive in cuts]
        return sum((4 * numel + extra) * batch_size * num_messages for numel in numels)

    def check(self) -> list[LocalModule]:
        """Builds everything once without memory for its weights, so that a wrong option is found before a run starts.

        Raises:
            IsogradError: What building would raise.
        """
        check_precision(self.config.precision)
        method, partition = self.method, self.partition
        with weightless():
            return method.local_modules(partition, self.config.seed)

    def sharing(self, other: "Blueprint | None") -> "Blueprint":
        """Takes over the backbone of another one where it is the same network: for checks, which do not change it."""
        if other is not None and "backbone" in vars(other) and _network(self.config) == _network(other.config):
            vars(self)["backbone"] = other.backbone
        return self

    def learners(self, indices: Iterable[int], device: torch.device) -> list[Learner]:
        """Builds the local modules at ``indices`` on ``device``, ready to step."""
        modules = self.method.local_modules(self.partition, self.config.seed, indices)
        return [self.learner(module, device) for module in modules]

    def learner(self, module: LocalModule, device: torch.device) -> Learner:
        """Gives a module that the blueprint's method has built what it needs to learn on ``device``."""
        config = self.config
        return make_learner(
            module,
            config.optimizer,
            config.lr_schedule,
            num_epochs=config.train.epochs,
            num_steps=config.train.max_steps,
            precision=config.precision,
            device=device,
            seed=config.seed,
            task=self.method.task,
        )

    def __getstate__(self) -> dict[str, RunConfig]:
        return {"config": self.config}


def task_of(config: RunConfig) -> Task:
    """Returns the task of a configuration, on its data. Raises TaskError where the data has no fields for it."""
    dataset = dataset_of(config.data)
    return TASKS.get(config.task.name)(config.task, dataset.inputs, dataset.targets)


def _network(config: RunConfig) -> tuple[object, ...]:
    """Returns all that a backbone depends on."""
    dataset = dataset_of(config.data)
    return config.model, config.task, dataset.inputs, dataset.targets, config.seed
