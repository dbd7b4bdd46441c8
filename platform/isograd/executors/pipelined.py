"""PPLL: one Ray actor a stage, all of them computing at the same time on different batches (Guo et al. 2024)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig
from isograd.errors import PartitionError
from isograd.executors.executor import EXECUTORS, Costs, Layout, Running
from isograd.executors.pipeline.config import PipelinedConfig
from isograd.executors.staged import StagedExecutor
from isograd.partition.balance import Limits
from isograd.partition.partition import Balanced, consecutive, even_split

if TYPE_CHECKING:
    from isograd.executors.pipeline.pipeline import Pipeline


@EXECUTORS.register("pipelined")
class PipelinedExecutor(StagedExecutor):
    """Local modules spread over stages; equals :class:`~isograd.executors.sequential.SequentialExecutor`."""

    Config = PipelinedConfig

    serves = frozenset({"inputs", "up_weights", "up_gradient"})

    @classmethod
    def layout(cls, blueprint: Blueprint) -> Layout:
        """Returns the stages asked for, or one a speed, or 2 at most."""
        options, num_modules = PipelinedConfig.within(blueprint.config), blueprint.partition.num_modules
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
        depth = PipelinedConfig.within(blueprint.config).queue_depth
        return blueprint.queued_bytes(cls.layout(blueprint).stages, depth + 2)

    @classmethod
    def resolve(cls, config: RunConfig, costs: Costs) -> RunConfig:
        """Spreads the modules over stages by what they cost, where that is asked for."""
        options = PipelinedConfig.within(config)
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
        options = PipelinedConfig.within(config)
        if options.num_stages is None and options.speeds:
            return [len(options.speeds)]
        return super().stage_counts(config, most)

    @classmethod
    def limits(cls, config: RunConfig, num_stages: int, link_bytes_per_s: float) -> Limits:
        """Returns what the stages can do, their devices' speeds and queues included."""
        options, limits = PipelinedConfig.within(config), super().limits(config, num_stages, link_bytes_per_s)
        return replace(limits, speeds=tuple(options.speeds or limits.speeds), queued_messages=options.queue_depth + 2)

    @classmethod
    def on_stages(cls, config: RunConfig, stages: Sequence[range]) -> RunConfig:
        """Returns the configuration with these modules on its stages."""
        sizes = [len(stage) for stage in stages]
        options = replace(PipelinedConfig.within(config), num_stages=len(sizes), modules_per_stage=sizes)
        return replace(config, executor=options)

    def make_stages(self) -> Running:
        """Returns a pipeline: one that moves modules between its stages, where that is asked for."""
        options, stages = PipelinedConfig.within(self.blueprint.config), self.layout(self.blueprint).stages
        if options.rebalance == "off" or len(stages) == 1:
            return make_pipeline(self.blueprint, held_bytes=self.held_bytes, extra_cpus=self.extra_cpus)
        from isograd.executors.pipeline.rebalancing import RECORDED_STEPS, RebalancingPipeline

        options = replace(options, timeline=max(options.timeline, RECORDED_STEPS))
        blueprint = Blueprint(replace(self.blueprint.config, executor=options))
        pipeline = make_pipeline(blueprint, held_bytes=self.held_bytes, extra_cpus=self.extra_cpus)
        return RebalancingPipeline(blueprint, pipeline, stages, tuple(options.speeds or (1.0,) * len(stages)))


def make_pipeline(
    blueprint: Blueprint, *, held_bytes: int = 0, extra_cpus: int = 0, records_steps: bool = False
) -> "Pipeline":
    """Returns the pipeline of a blueprint's local modules, whose stages stay as they are.

    Raises:
        ExchangeError: The method exchanges what a pipeline does not carry.
        PartitionError: There are more stages than local modules.
    """
    from isograd.executors.pipeline.pipeline import Pipeline, stage_builders

    PipelinedExecutor.check(blueprint)
    config = blueprint.config
    return Pipeline(
        stage_builders(blueprint, PipelinedExecutor.layout(blueprint).stages),
        PipelinedConfig.within(config),
        config.cluster,
        queued_bytes=held_bytes + PipelinedExecutor.queued_bytes(blueprint),
        extra_cpus=extra_cpus,
        records_steps=records_steps,
    )


def _num_stages(blueprint: Blueprint, options: PipelinedConfig) -> int:
    num_modules = blueprint.partition.num_modules
    asked = options.num_stages
    if asked is None:
        default = PipelinedExecutor.default_num_stages(blueprint, num_modules)
        asked = len(options.speeds) if options.speeds else default
    if not 1 <= asked <= num_modules:
        raise PartitionError(
            f"cannot spread {num_modules} local modules over {asked} stages",
            "Each stage hosts at least one whole local module",
            f"Use executor.num_stages={num_modules}, or more local modules (partition.num_modules).",
        )
    return asked
