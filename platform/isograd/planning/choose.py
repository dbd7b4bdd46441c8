"""Decides by measured costs what a configuration leaves open: cuts, number of stages, modules of each stage."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig
from isograd.executors.executor import executor_of
from isograd.executors.sequential import SequentialExecutor
from isograd.local.method import METHODS
from isograd.partition.balance import Assignment, Piece, balanced, check_counts
from isograd.partition.partition import Balanced, Even
from isograd.planning.link import link
from isograd.planning.profile import ModuleProfile, Profile, profile
from isograd.schedules.simulation import Link

_PROFILED = "dgl"  # method, for the units of one that has no cuts
_WORTHWHILE = 0.98  # another stage has to shorten the period to this share


def resolved(config: RunConfig, cache: Path | None = None) -> RunConfig:
    """Returns the configuration with everything decided that ``partition=balanced`` and ``executor.spread=balanced``
    leave to measured costs, of modules and of the link between stages; another one is returned as it is.

    Args:
        config: As asked for.
        cache: Of measurements.

    Raises:
        PartitionError: Nothing fits into the memory limit.
    """
    rule, costs = config.partition, MeasuredCosts(cache)
    if isinstance(rule, Balanced) and not rule.ends and rule.num_modules != 1 and _has_cuts(config):
        return _cut(config, rule, costs)
    return executor_of(config).resolve(config, costs)


@dataclass(frozen=True)
class MeasuredCosts:
    """Costs on this machine. Implements :class:`~isograd.executors.executor.Costs`.

    Attributes:
        cache: Of measurements.
    """

    cache: Path | None = None

    def modules(self, config: RunConfig) -> list[Piece]:
        """Returns what each local module costs."""
        return module_pieces(profile(Blueprint(config), cache=self.cache))

    def units(self, config: RunConfig) -> list[Piece]:
        """Returns what each unit of the backbone costs, and a cut after it."""
        return pieces_of_units(Blueprint(config), self.cache)

    def best(self, config: RunConfig, pieces: Sequence[Piece], num_modules: int | None) -> Assignment:
        """Returns the best assignment over the numbers of stages: the fewest of those that are about as fast."""
        executor = executor_of(config)
        counts = executor.stage_counts(config, num_modules or len(pieces))
        has_links = executor.needs_ray and max(counts) > 1
        between = link(config.executor, config.cluster, self.cache) if has_links else Link()
        best, *others = [
            balanced(pieces, num_modules or count, executor.limits(config, count, between.bytes_per_s))
            for count in counts
        ]
        for other in others:
            if other.period_s <= _WORTHWHILE * best.period_s:
                best = other
        return best


def with_cuts(config: RunConfig, cache: Path | None = None) -> RunConfig:
    """Returns the configuration with its cuts decided, and the executor as asked for: all that results depend on."""
    return replace(resolved(config, cache=cache), executor=config.executor)


def _has_cuts(config: RunConfig) -> bool:
    return Blueprint(config).method.max_num_modules != 1


def pieces_of_units(blueprint: Blueprint, cache: Path | None = None) -> list[Piece]:
    """Returns the costs of a backbone's units, and of cuts after them, by a partition that cuts everywhere.

    Cuts cost nothing where the method has none: it carries gradients across them.
    """
    found = [unit_piece(module) for module in profile(finest(blueprint), cache=cache).modules]
    if blueprint.method.max_num_modules == 1:
        return [replace(piece, cut_seconds=0.0, cut_state_bytes=0) for piece in found]
    return found


def finest(blueprint: Blueprint) -> Blueprint:
    """Returns the blueprint with a cut after every unit: of DGL, where the method itself has no cuts."""
    config = blueprint.config
    if blueprint.method.max_num_modules == 1:
        config = replace(config, method=METHODS.get(_PROFILED).Config())
    executor = SequentialExecutor.Config.of(config.executor)
    return Blueprint(replace(config, partition=Even(num_modules=len(blueprint.backbone.units)), executor=executor))


def unit_piece(module: ModuleProfile) -> Piece:
    """Returns what a local module of a single unit costs, its auxiliary network apart."""
    cut_s = sum(seconds for name, seconds in module.seconds.items() if "loss" in name)
    share = module.num_auxiliary_parameters / max(module.num_parameters, 1)
    return Piece(
        module.step_s - cut_s,
        cut_s,
        module.output_bytes,
        state_bytes=int(module.state_bytes * (1 - share)),
        cut_state_bytes=int(module.state_bytes * share),
        activation_bytes=module.activation_bytes,
    )


def module_pieces(found: Profile) -> list[Piece]:
    """Returns local modules as pieces that are not divided."""
    return [
        Piece(
            module.step_s,
            output_bytes=module.output_bytes,
            state_bytes=module.state_bytes,
            activation_bytes=module.activation_bytes,
        )
        for module in found.modules
    ]


def _cut(config: RunConfig, rule: Balanced, costs: MeasuredCosts) -> RunConfig:
    blueprint, executor = Blueprint(replace(config, partition=Even(num_modules=2))), executor_of(config)
    num_units = len(blueprint.backbone.units)
    for num_stages in executor.stage_counts(config, rule.num_modules or num_units):  # before anything is measured
        check_counts(num_units, rule.num_modules or num_stages, num_stages)
    found = costs.best(config, pieces_of_units(blueprint, costs.cache), rule.num_modules)
    names = [unit.name for unit in blueprint.backbone.units]
    ends = [names[end - 1] for end in found.ends[:-1]]
    cut = replace(config, partition=replace(rule, num_modules=len(found.ends), ends=ends))
    return executor.on_stages(cut, found.stages)
