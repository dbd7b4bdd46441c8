"""The recipe by which any process builds its local modules: the same ones, whichever process builds them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise

import torch

from isograd.config.check import check
from isograd.config.schema import RunConfig
from isograd.data.transforms import Normalize
from isograd.errors import PartitionError
from isograd.executor.upward import Routes
from isograd.local.learner import Learner, check_precision, make_learner
from isograd.local.method import METHODS, Method
from isograd.local.module import LocalModule
from isograd.models.backbone import MODELS, Backbone
from isograd.partition.partition import Partition, PartitionRule, Published
from isograd.tasks.task import TASKS


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
            config.model, input_shape=config.data.shape, num_classes=config.data.num_classes, seed=config.seed
        )

    @cached_property
    def method(self) -> Method:
        """The local-learning method."""
        config = self.config
        task = TASKS.get(config.task.name)(config.data.num_classes, config.task.label_smoothing)
        return METHODS.get(config.method.name)(config.method, task, Normalize(config.data.mean, config.data.std))

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
        """S: 1 in one process; else as asked for, or 2, or fewer where there are fewer local modules."""
        config, num_modules = self.config.executor, self.partition.num_modules
        if config.name == "sequential":
            return 1
        asked = self._default_num_stages() if config.num_stages is None else config.num_stages
        if not 1 <= asked <= num_modules:
            raise PartitionError(
                f"cannot spread {num_modules} local modules over {asked} stages",
                "Each stage hosts at least one whole local module",
                f"Use executor.num_stages<={num_modules}, or more local modules (partition.num_modules).",
            )
        return asked

    def _default_num_stages(self) -> int:
        """Two, or one where this machine has a single GPU for them; on a cluster the placement decides."""
        config = self.config
        uses_gpus = config.executor.device != "cpu" and config.cluster.address is None and torch.cuda.is_available()
        room = int(torch.cuda.device_count() / config.executor.gpus_per_stage) if uses_gpus else 2
        return min(2, self.partition.num_modules, max(room, 1))

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
        """What the queues between all stages hold at most: float32 activations, targets and, where needed, images."""
        config, partition = self.config, self.partition
        extra = torch.Size(partition.backbone.input_shape).numel() + 8
        numels = [partition.units(modules[-1])[-1].output.numel for modules in self.stages[:-1]]
        return sum((4 * numel + extra) * config.data.batch_size * (config.executor.queue_depth + 2) for numel in numels)

    def check(self) -> list[LocalModule]:
        """Builds everything once without memory for its weights, so that a wrong option is found before a run starts.

        Raises:
            IsogradError: What building would raise.
        """
        self.num_stages  # noqa: B018
        check_precision(self.config.precision)
        method, partition = self.method, self.partition
        with torch.device("meta"):
            return method.local_modules(partition, self.config.seed)

    def learners(self, indices: Iterable[int], device: torch.device) -> list[Learner]:
        """Builds the local modules at ``indices`` on ``device``, ready to step."""
        config = self.config
        return [
            make_learner(
                module,
                config.optimizer,
                config.schedule,
                num_epochs=config.train.epochs,
                precision=config.precision,
                device=device,
                seed=config.seed,
                task=self.method.task,
            )
            for module in self.method.local_modules(self.partition, config.seed, indices)
        ]

    def __getstate__(self) -> dict[str, RunConfig]:
        return {"config": self.config}


def spread(num_modules: int, num_stages: int) -> list[range]:
    """Returns which consecutive local modules each stage hosts: as many as every other, the first ones one more."""
    share, rest = divmod(num_modules, num_stages)
    return consecutive([share + (stage < rest) for stage in range(num_stages)])


def consecutive(sizes: Iterable[int]) -> list[range]:
    """Returns the ranges of these sizes, one after the other from 0."""
    ends = list(accumulate(sizes, initial=0))
    return [range(start, end) for start, end in pairwise(ends)]
