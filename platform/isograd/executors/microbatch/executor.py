"""End-to-end training as a traditional pipeline, as an executor: what can be known of it before it runs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig
from isograd.errors import ConfigError, ExchangeError
from isograd.executors.executor import EXECUTORS, Costs, Layout, Running
from isograd.executors.microbatch.plan import PiecePlan, plan_pieces
from isograd.executors.staged import StagedConfig, StagedExecutor
from isograd.options import choice, number
from isograd.partition.balance import Limits, balanced
from isograd.partition.partition import Partition, even_split
from isograd.schedules.microbatch import PIPELINE_SCHEDULES


@EXECUTORS.register("microbatch")
class MicrobatchExecutor(StagedExecutor):
    """Trains one network end to end, in microbatches that follow each other through slices of its units.

    It rounds otherwise than the executors of local modules, and BatchNorm and dropout see microbatches.
    """

    @dataclass
    class Config(StagedConfig):
        """Options of the schedule.

        Attributes:
            schedule: ``1f1b``, ``gpipe``, ``interleaved``, ``zero_bubble`` or ``zbv``.
            num_microbatches: M, equal parts of a batch.
            chunks: V, the slices of the network that a stage hosts; null: as few as the schedule can have, which is 2
                for ``interleaved`` and ``zbv``, and 1 for the others.
            units_per_piece: How many units each of the S V slices has; null: as ``spread`` says.
        """

        name: str = "microbatch"
        schedule: str = choice(*PIPELINE_SCHEDULES)
        num_microbatches: int = number(8, 1)
        chunks: int | None = number(None, 1)
        units_per_piece: list[int] | None = None

        @property
        def rounding(self) -> tuple[int, ...]:
            """What of the options changes how sums are rounded."""
            return self.threads, self.num_microbatches

        def check(self, config: RunConfig) -> None:
            """Raises ConfigError for options out of range, or for what torch's schedules cannot do."""
            super().check(config)
            if config.precision.compile and PIPELINE_SCHEDULES[self.schedule].splits_backward:
                raise ConfigError(
                    f"precision.compile does not go with executor.schedule={self.schedule}",
                    "The schedule computes the gradient of the weights apart, which a compiled backward pass cannot",
                    "Use precision.compile=false, or executor.schedule=interleaved.",
                )
            if self.timeline:
                raise ConfigError(
                    f"executor.timeline={self.timeline} does not go with executor=microbatch",
                    "Its schedules are torch.distributed.pipelining's, which records by torch.profiler only",
                    "Use executor.timeline=0.",
                )

    num_readers = 2  # the first and the last stage

    @classmethod
    def layout(cls, blueprint: Blueprint) -> Layout:
        """Returns the stages, each of which hosts some units of the only local module."""
        asked = cls.Config.within(blueprint.config).num_stages
        num_stages = cls.default_num_stages(blueprint, 2) if asked is None else asked
        return Layout((range(1),) * num_stages)

    @classmethod
    def plan(cls, blueprint: Blueprint, ends: Sequence[int] | None = None) -> PiecePlan:
        """Returns which stage hosts which units; see :func:`~isograd.executors.microbatch.plan.plan_pieces`."""
        options, num_stages = cls.Config.within(blueprint.config), cls.layout(blueprint).num_stages
        return plan_pieces(options, len(blueprint.backbone.units), num_stages=num_stages, ends=ends)

    @classmethod
    def check(cls, blueprint: Blueprint) -> None:
        """Raises IsogradError for a method that does not train in one piece, or numbers that do not go together."""
        cls.check_method(blueprint)
        plan = cls.plan(blueprint)
        plan.check_batch_size(blueprint.config.data.batch_size)
        Partition(blueprint.backbone, plan.ends).check_weights()

    @classmethod
    def check_method(cls, blueprint: Blueprint) -> None:
        """Raises ExchangeError for a method that does not train the network in one piece, by one loss at its end."""
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
        parts = cls.Config.within(config).num_microbatches
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
    def resolve(cls, config: RunConfig, costs: Costs) -> RunConfig:
        """Cuts the network by what its units cost, where that is asked for."""
        options = cls.Config.within(config)
        if options.spread != "balanced" or options.units_per_piece is not None:
            return config
        units, num_pieces = costs.units(config), cls.plan(Blueprint(config)).num_pieces
        ends = balanced(units, num_pieces, Limits((1.0,) * num_pieces)).ends
        sizes = [end - start for start, end in zip((0, *ends), ends, strict=False)]
        return replace(config, executor=replace(options, units_per_piece=sizes))

    def make_stages(self) -> Running:
        """Returns the pipeline."""
        from isograd.executors.microbatch.pipeline import microbatch

        return microbatch(self.blueprint, held_bytes=self.held_bytes, extra_cpus=self.extra_cpus)
