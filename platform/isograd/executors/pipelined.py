"""PPLL: one Ray actor a stage, all of them computing at the same time on different batches (Guo et al. 2024)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig
from isograd.errors import PartitionError
from isograd.executors.executor import EXECUTORS, Costs, Layout, Running
from isograd.executors.staged import StagedConfig, StagedExecutor
from isograd.options import Range, check_numbers, choice, number
from isograd.partition.balance import Limits
from isograd.partition.partition import Balanced, consecutive, even_split


@EXECUTORS.register("pipelined")
class PipelinedExecutor(StagedExecutor):
    """Local modules spread over stages; equals :class:`~isograd.executors.sequential.SequentialExecutor`."""

    @dataclass
    class Config(StagedConfig):
        """Options of the pipeline.

        Attributes:
            modules_per_stage: How many consecutive local modules each stage hosts; null: as ``spread`` says.
            rebalance: ``auto``: where a run shows that modules spread otherwise would make its slowest stage more than
                10 % faster, they move at an epoch's end; ``off``: never.
            speeds: Of the stages' devices, relative to each other, for balancing, one a stage; null: all the same.
            queue_depth: Activations that may wait between two stages.
            channel: How they travel: ``store`` (Ray's object store), ``direct`` (Ray's direct transport),
                ``collective`` (a process group of two a connection: gloo or NCCL), or ``auto``, the best of them where
                the stages run.
        """

        name: str = "pipelined"
        modules_per_stage: list[int] | None = None
        rebalance: str = choice("off", "auto")
        speeds: list[float] | None = None
        queue_depth: int = number(2, 1)
        channel: str = choice("auto", "store", "direct", "collective")

        def in_one_stage(self) -> Self:
            """Returns the options for a method without cuts."""
            return self if self.num_stages in (None, 1) else replace(self, num_stages=None)

        def check(self, config: RunConfig) -> None:
            """Raises ConfigError for options out of range, or where there is not one speed a stage."""
            if self.speeds is not None:
                count = max(len(self.speeds), 1) if self.num_stages is None else self.num_stages
                what = "the speed of each stage's device"
                check_numbers("executor.speeds", self.speeds, count, what, Range(0, open=True))
            super().check(config)

    serves = frozenset({"inputs", "up_weights", "up_gradient"})

    @classmethod
    def layout(cls, blueprint: Blueprint) -> Layout:
        """Returns the stages asked for, or one a speed, or 2 at most."""
        options, num_modules = cls.Config.within(blueprint.config), blueprint.partition.num_modules
        num_stages = _num_stages(blueprint, options)
        asked = options.modules_per_stage
        if asked is None or num_stages == 1:
            return Layout(tuple(even_split(num_modules, num_stages)))
        if len(asked) != num_stages or sum(asked) != num_modules or min(asked) < 1:
            raise PartitionError(
                f"executor.modules_per_stage={asked} does not spread {num_modules} local modules over "
                f"{num_stages} stages",
                "It names for each stage how many modules it hosts, at least one, and all of them together",
                "Use as many numbers as executor.num_stages, which add up to K; or leave it out.",
            )
        return Layout(tuple(consecutive(asked)))

    @classmethod
    def queued_bytes(cls, blueprint: Blueprint) -> int:
        """Returns what the queues between all stages hold at most."""
        depth = cls.Config.within(blueprint.config).queue_depth
        return blueprint.queued_bytes(cls.layout(blueprint).stages, depth + 2)

    @classmethod
    def resolve(cls, config: RunConfig, costs: Costs) -> RunConfig:
        """Spreads the modules over stages by what they cost, where that is asked for."""
        options = cls.Config.within(config)
        is_asked = options.spread == "balanced" or isinstance(config.partition, Balanced)
        if not is_asked or options.modules_per_stage is not None:
            return config
        pieces = costs.modules(config)
        if (options.num_stages or 1) > len(pieces):
            return config  # the layout says why that cannot be
        return cls.on_stages(config, costs.best(config, pieces, len(pieces)).stages)

    @classmethod
    def stage_counts(cls, config: RunConfig, most: int) -> list[int]:
        """Returns the number asked for, or one a speed, or all up to one a device of this machine."""
        options = cls.Config.within(config)
        if options.num_stages is None and options.speeds:
            return [len(options.speeds)]
        return super().stage_counts(config, most)

    @classmethod
    def limits(cls, config: RunConfig, num_stages: int, link_bytes_per_s: float) -> Limits:
        """Returns what the stages can do, their devices' speeds and queues included."""
        options, limits = cls.Config.within(config), super().limits(config, num_stages, link_bytes_per_s)
        return replace(limits, speeds=tuple(options.speeds or limits.speeds), queued_messages=options.queue_depth + 2)

    @classmethod
    def on_stages(cls, config: RunConfig, stages: Sequence[range]) -> RunConfig:
        """Returns the configuration with these modules on its stages."""
        sizes = [len(stage) for stage in stages]
        options = replace(cls.Config.within(config), num_stages=len(sizes), modules_per_stage=sizes)
        return replace(config, executor=options)

    def make_stages(self) -> Running:
        """Returns a pipeline: one that moves modules between its stages, where that is asked for."""
        from isograd.executors.pipeline.pipeline import pipelined
        from isograd.executors.pipeline.rebalancing import RebalancingPipeline

        moves = self.Config.within(self.blueprint.config).rebalance == "auto"
        make = RebalancingPipeline if moves and self.layout(self.blueprint).num_stages > 1 else pipelined
        return make(self.blueprint, held_bytes=self.held_bytes, extra_cpus=self.extra_cpus)


def _num_stages(blueprint: Blueprint, options: PipelinedExecutor.Config) -> int:
    num_modules = blueprint.partition.num_modules
    asked = options.num_stages
    if asked is None:
        default = PipelinedExecutor.default_num_stages(blueprint, num_modules)
        asked = len(options.speeds) if options.speeds else default
    if not 1 <= asked <= num_modules:
        raise PartitionError(
            f"cannot spread {num_modules} local modules over {asked} stages",
            "Each stage hosts at least one whole local module",
            f"Use executor.num_stages<={num_modules}, or more local modules (partition.num_modules).",
        )
    return asked
