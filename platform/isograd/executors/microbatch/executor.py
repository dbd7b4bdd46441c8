"""End-to-end training as a traditional pipeline, as an executor: what can be known of it before it runs."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig
from isograd.errors import ConfigError, ExchangeError
from isograd.executors.executor import EXECUTORS, Costs, F, Forecasts, Layout, Running
from isograd.executors.microbatch.config import MicrobatchConfig
from isograd.executors.microbatch.plan import PiecePlan, plan_pieces
from isograd.executors.staged import StagedExecutor
from isograd.partition.balance import Limits, balanced
from isograd.partition.partition import Partition, even_split

if TYPE_CHECKING:
    from isograd.executors.microbatch.pipeline import MicrobatchPipeline


@EXECUTORS.register("microbatch")
class MicrobatchExecutor(StagedExecutor):
    """Trains one network end to end, in microbatches that follow each other through slices of its units.

    It rounds otherwise than the executors of local modules, and BatchNorm and dropout see microbatches.
    """

    Config = MicrobatchConfig

    num_readers = 2  # the first and the last stage

    @classmethod
    def layout(cls, blueprint: Blueprint) -> Layout:
        """Returns the stages, each of which hosts some units of the only local module."""
        asked = MicrobatchConfig.within(blueprint.config).num_stages
        num_stages = cls.default_num_stages(blueprint, 2) if asked is None else asked
        return Layout((range(1),) * num_stages)

    @classmethod
    def plan(cls, blueprint: Blueprint, ends: Sequence[int] | None = None) -> PiecePlan:
        """Returns which stage hosts which units; see :func:`~isograd.executors.microbatch.plan.plan_pieces`."""
        options, num_stages = MicrobatchConfig.within(blueprint.config), cls.layout(blueprint).num_stages
        return plan_pieces(options, len(blueprint.backbone.units), num_stages=num_stages, ends=ends)

    @classmethod
    def check(cls, blueprint: Blueprint) -> None:
        """Raises IsogradError for a method that does not train in one piece, or numbers that do not go together."""
        cls.checked_plan(blueprint).check_batch_size(blueprint.config.data.batch_size)

    @classmethod
    def checked_plan(cls, blueprint: Blueprint, ends: Sequence[int] | None = None) -> PiecePlan:
        """Returns which stage hosts which units.

        Raises:
            ExchangeError: The method does not train the network in one piece, by one loss at its end.
            ConfigError: The schedule does not go with the numbers.
            PartitionError: A cut separates units that share weights, or there are more pieces than units.
        """
        cls._check_method(blueprint)
        plan = cls.plan(blueprint, ends)
        blueprint.method.check_pieces(Partition(blueprint.partition.backbone, plan.ends))
        return plan

    @classmethod
    def _check_method(cls, blueprint: Blueprint) -> None:
        num_modules, name = blueprint.partition.num_modules, blueprint.config.method.name
        if num_modules > 1:
            raise ExchangeError(
                f"executor 'microbatch' cannot run method '{name}' with {num_modules} local modules",
                "It carries gradients across its cuts, which local modules do not have",
                "Use method=e2e, or executor=pipelined.",
            )
        blueprint.method.exchange.check_served(cls.serves, name, "microbatch")

    @classmethod
    def check_batches(cls, config: RunConfig, sizes: Sequence[int], has_batchnorm: bool) -> None:
        """Raises ConfigError where a microbatch would be a single sample, of which BatchNorm takes no variance."""
        parts = MicrobatchConfig.within(config).num_microbatches
        if has_batchnorm and parts in sizes:
            raise ConfigError(
                f"executor.num_microbatches={parts} splits a batch of as many samples into single ones",
                "BatchNorm needs at least two to take a variance of",
                f"Use executor.num_microbatches={max(parts // 2, 1)}, for example.",
            )

    @classmethod
    def unit_stages(cls, blueprint: Blueprint) -> list[range]:
        """Returns the units of each stage; those of several slices as if they were one, of an even share."""
        plan = cls.plan(blueprint)
        if plan.chunks == 1:
            return [plan.units(piece) for piece in range(plan.num_pieces)]
        return even_split(plan.ends[-1], plan.num_stages)

    @classmethod
    def forecast(cls, blueprint: Blueprint, forecasts: Forecasts[F]) -> F:
        """Returns what it will do, simulated. Raises UnknownNameError for a schedule that is not simulated."""
        options, chunks = MicrobatchConfig.within(blueprint.config), cls.plan(blueprint).chunks
        stages = cls.unit_stages(blueprint)
        return forecasts.microbatched(stages, options.schedule, options.num_microbatches, chunks)

    @classmethod
    def resolve(cls, config: RunConfig, costs: Costs) -> RunConfig:
        """Cuts the network by what its units cost, where that is asked for."""
        options = MicrobatchConfig.within(config)
        if options.spread != "balanced" or options.units_per_piece is not None:
            return config
        units, num_pieces = costs.units(config), cls.plan(Blueprint(config)).num_pieces
        ends = balanced(units, num_pieces, Limits((1.0,) * num_pieces)).ends
        sizes = [end - start for start, end in itertools.pairwise((0, *ends))]
        return replace(config, executor=replace(options, units_per_piece=sizes))

    def make_stages(self) -> Running:
        """Returns the pipeline."""
        return make_microbatch_pipeline(self.blueprint, held_bytes=self.held_bytes, extra_cpus=self.extra_cpus)


def make_microbatch_pipeline(
    blueprint: Blueprint,
    *,
    ends: Sequence[int] | None = None,
    held_bytes: int = 0,
    extra_cpus: int = 0,
    records_steps: bool = False,
) -> "MicrobatchPipeline":
    """Returns the pipeline that trains a blueprint's network end to end.

    Args:
        blueprint: Of a method with a single local module.
        ends: For each of the S V pieces the position after its last unit; default: an even cut.
        held_bytes: What the data source carries with it.
        extra_cpus: Logical CPUs that data readers need beside the stages.
        records_steps: Whether the stages' reports list when each step ended.

    Raises:
        ExchangeError: The method has several local modules.
        ConfigError: The schedule does not go with the numbers of stages, pieces and microbatches.
        PartitionError: There are more pieces than units, or the ends do not fit.
    """
    from isograd.executors.microbatch.pipeline import BlueprintPieces, MicrobatchPipeline

    return MicrobatchPipeline(
        BlueprintPieces(blueprint),
        MicrobatchExecutor.checked_plan(blueprint, ends),
        MicrobatchConfig.within(blueprint.config),
        blueprint.config.cluster,
        held_bytes=held_bytes,
        extra_cpus=extra_cpus,
        records_steps=records_steps,
    )
