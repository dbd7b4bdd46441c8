"""The recipe by which any process builds its local modules: the same ones, whichever process builds them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import torch

from isograd.data.dataset import Dataset, dataset_of
from isograd.engine.check import check
from isograd.engine.config import RunConfig
from isograd.engine.upward import Routes
from isograd.errors import ExchangeError, PartitionError
from isograd.executors.microbatch.plan import plan_pieces
from isograd.local.learner import Learner, check_precision, make_learner
from isograd.local.method import METHODS, Method
from isograd.local.module import LocalModule, Silent
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
        return TASKS.get(self.config.task.name)(self.config.task, self.dataset.inputs, self.dataset.targets)

    @cached_property
    def method(self) -> Method:
        """The local-learning method."""
        config = self.config
        return METHODS.get(config.method.name)(config.method, self.task, self.dataset)

    @cached_property
    def partition(self) -> Partition:
        """The cuts, and what is cut: a method may change both."""
        return self.method.arrange(self.rule.cut(self.backbone, self.num_modules))

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

    @property
    def num_stages(self) -> int:
        """S: 1 in one process; else as asked for, or one a speed, or 2 at most."""
        config, num_modules = self.config.executor, self.partition.num_modules
        if config.name == "sequential":
            return 1
        if config.name == "microbatch":
            return self._default_num_stages(2) if config.num_stages is None else config.num_stages
        default = len(config.speeds) if config.speeds else self._default_num_stages(num_modules)
        asked = default if config.num_stages is None else config.num_stages
        if not 1 <= asked <= num_modules:
            raise PartitionError(
                f"cannot spread {num_modules} local modules over {asked} stages",
                "Each stage hosts at least one whole local module",
                f"Use executor.num_stages<={num_modules}, or more local modules (partition.num_modules).",
            )
        return asked

    def _default_num_stages(self, most: int) -> int:
        """Two, or one where this machine has a single GPU for them; on a cluster the placement decides."""
        config = self.config
        uses_gpus = config.executor.device != "cpu" and config.cluster.address is None and torch.cuda.is_available()
        room = int(torch.cuda.device_count() / config.executor.gpus_per_stage) if uses_gpus else 2
        return min(2, most, max(room, 1))

    @property
    def stages(self) -> list[range]:
        """Which consecutive local modules each stage hosts."""
        asked = self.config.executor.modules_per_stage
        if asked is None or self.num_stages == 1:
            return spread(self.partition.num_modules, self.num_stages)
        if len(asked) != self.num_stages or sum(asked) != self.partition.num_modules or min(asked) < 1:
            raise PartitionError(
                f"executor.modules_per_stage={asked} does not spread {self.partition.num_modules} local modules over "
                f"{self.num_stages} stages",
                "It names for each stage how many modules it hosts, at least one, and all of them together",
                "Use as many numbers as executor.num_stages, which add up to K; or leave it out.",
            )
        return consecutive(asked)

    @property
    def routes(self) -> Routes:
        """Where weights go that modules share with earlier ones."""
        followers: dict[str, tuple[int, ...]] = {}
        for module in range(self.partition.num_modules):
            for unit in self.method.follows(self.partition, module):
                followers[unit] = (*followers.get(unit, ()), module)
        stage_of = tuple(stage for stage, modules in enumerate(self.stages) for _ in modules)
        return Routes(followers, stage_of)

    @property
    def queued_bytes(self) -> int:
        """What the queues between all stages hold at most: float32 activations, targets and, where needed, inputs."""
        config, sample = self.config, self.task.synthetic(1, torch.Generator())
        extra = sum(tensor.nbytes for tree in (sample.inputs, sample.targets) for tensor in tree.values())
        cuts = [self.partition.live(modules[-1]).values() for modules in self.stages[:-1]]
        numels = [sum(feature.numel for feature in alive) for alive in cuts]
        return sum((4 * numel + extra) * config.data.batch_size * (config.executor.queue_depth + 2) for numel in numels)

    def check(self) -> list[LocalModule]:
        """Builds everything once without memory for its weights, so that a wrong option is found before a run starts.

        Raises:
            IsogradError: What building would raise.
        """
        if self.config.executor.name == "microbatch":
            self.check_end_to_end()
            num_units = len(self.partition.backbone.units)
            plan = plan_pieces(self.config.executor, num_units, num_stages=self.num_stages)
            plan.check_batch_size(self.config.data.batch_size)
        else:
            self.stages  # noqa: B018
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
        return [self._learner(module, device) for module in modules]

    def pieces(self, pieces: Iterable[range], device: torch.device) -> list[Learner]:
        """Builds slices of the only local module on ``device``, each given by the positions of its units.

        The first has its entry, the last its objective; their states together are that of the whole.
        """
        units, whole = self.partition.units(0), self.method.local_module(self.partition, 0, self.config.seed)
        num_passes, backbone = self.method.num_passes(self.partition, 0), self.partition.backbone
        modules = [
            LocalModule(
                index,
                units[piece.start : piece.stop],
                whole.objective if piece.stop == len(units) else Silent(),
                entering=list(backbone.live(piece.start)),
                leaving=list(backbone.live(piece.stop)),
                entry=dict(whole.entry.items()) if piece.start == 0 else None,
                num_passes=num_passes[piece.start : piece.stop],
            )
            for index, piece in enumerate(pieces)
        ]
        return [self._learner(module, device) for module in modules]

    def check_end_to_end(self) -> None:
        """Raises ExchangeError for a method that does not train the network in one piece, by one loss at its end."""
        num_modules, name = self.partition.num_modules, self.config.method.name
        if num_modules > 1:
            raise ExchangeError(
                f"executor 'microbatch' cannot run method '{name}' with {num_modules} local modules",
                "It carries gradients across its cuts, which local modules do not have",
                "Use method=e2e, or executor=pipelined.",
            )
        self.method.exchange.check_served(frozenset(), name, "microbatch")

    def _learner(self, module: LocalModule, device: torch.device) -> Learner:
        config = self.config
        return make_learner(
            module,
            config.optimizer,
            config.schedule,
            num_epochs=config.train.epochs,
            precision=config.precision,
            device=device,
            seed=config.seed,
            task=self.method.task,
        )

    def __getstate__(self) -> dict[str, RunConfig]:
        return {"config": self.config}


def _network(config: RunConfig) -> tuple[object, ...]:
    """Returns all that a backbone depends on."""
    return config.model, config.data, config.seed


def spread(num_modules: int, num_stages: int) -> list[range]:
    """Returns which consecutive local modules each stage hosts: as many as every other, the first ones one more."""
    share, rest = divmod(num_modules, num_stages)
    return consecutive([share + (stage < rest) for stage in range(num_stages)])


def consecutive(sizes: Iterable[int]) -> list[range]:
    """Returns the ranges of these sizes, one after the other from 0."""
    ends = list(accumulate(sizes, initial=0))
    return [range(start, end) for start, end in pairwise(ends)]
