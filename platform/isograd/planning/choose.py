"""Decides by measured costs what a configuration leaves open: cuts, number of stages, modules of each stage."""

import itertools
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig
from isograd.executors.microbatch.plan import plan_pieces
from isograd.local.method import METHODS
from isograd.partition.balance import Assignment, Limits, Piece, balanced, check_counts
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
    rule = config.partition
    if isinstance(rule, Balanced) and not rule.ends and rule.num_modules != 1 and _has_cuts(config):
        return _cut(config, rule, cache)
    if config.executor.name == "microbatch":
        return _pieces(config, cache)
    needs_spread = config.executor.spread == "balanced" or isinstance(rule, Balanced)
    if needs_spread and config.executor.modules_per_stage is None and config.executor.name == "pipelined":
        return _spread(config, cache)
    return config


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
    executor = replace(config.executor, name="sequential", num_stages=None, modules_per_stage=None)
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


def _cut(config: RunConfig, rule: Balanced, cache: Path | None) -> RunConfig:
    blueprint = Blueprint(replace(config, partition=Even(num_modules=2)))
    num_units = len(blueprint.backbone.units)
    for num_stages in _stage_counts(config, rule.num_modules or num_units):  # before anything is measured
        check_counts(num_units, rule.num_modules or num_stages, num_stages)
    pieces = pieces_of_units(blueprint, cache)
    found = _best(config, pieces, rule.num_modules, cache)
    names = [unit.name for unit in blueprint.backbone.units]
    ends = [names[end - 1] for end in found.ends[:-1]]
    cut = replace(config, partition=replace(rule, num_modules=len(found.ends), ends=ends))
    return _on_stages(cut, found)


def _pieces(config: RunConfig, cache: Path | None) -> RunConfig:
    """Spreads an end-to-end pipeline's units over its pieces, if that is asked for."""
    executor, blueprint = config.executor, Blueprint(config)
    if executor.spread != "balanced" or executor.units_per_piece is not None:
        return config
    units = pieces_of_units(blueprint, cache)
    num_pieces = plan_pieces(executor, len(units), num_stages=blueprint.num_stages).num_pieces
    ends = balanced(units, num_pieces, Limits((1.0,) * num_pieces)).ends
    sizes = [end - start for start, end in itertools.pairwise((0, *ends))]
    return replace(config, executor=replace(executor, units_per_piece=sizes))


def _spread(config: RunConfig, cache: Path | None) -> RunConfig:
    pieces = module_pieces(profile(Blueprint(config), cache=cache))
    if (config.executor.num_stages or 1) > len(pieces):
        return config  # the blueprint's check says why that cannot be
    return _on_stages(config, _best(config, pieces, len(pieces), cache))


def _best(config: RunConfig, pieces: Sequence[Piece], num_modules: int | None, cache: Path | None) -> Assignment:
    """Returns the best assignment over the numbers of stages: the fewest of those that are about as fast."""
    counts = _stage_counts(config, num_modules or len(pieces))
    has_links = config.executor.name == "pipelined" and max(counts) > 1
    between = link(config.executor, config.cluster, cache) if has_links else Link()
    best, *others = [balanced(pieces, num_modules or count, _limits(config, count, between)) for count in counts]
    for other in others:
        if other.period_s <= _WORTHWHILE * best.period_s:
            best = other
    return best


def _on_stages(config: RunConfig, found: Assignment) -> RunConfig:
    sizes = [len(stage) for stage in found.stages]
    return replace(config, executor=replace(config.executor, num_stages=len(sizes), modules_per_stage=sizes))


def _limits(config: RunConfig, num_stages: int, between: Link) -> Limits:
    memory_mib = getattr(config.partition, "memory_mib", None)
    return Limits(
        tuple(config.executor.speeds or (1.0,) * num_stages),
        between.bytes_per_s,
        float("inf") if memory_mib is None else memory_mib * 2**20,
        config.executor.queue_depth + 2,
    )


def _stage_counts(config: RunConfig, most: int) -> list[int]:
    """The numbers of stages to choose among: the one asked for, or up to one a device of this machine."""
    executor = config.executor
    if executor.num_stages is not None:
        return [executor.num_stages]
    if executor.speeds:
        return [len(executor.speeds)]
    if executor.name == "sequential":
        return [min(Blueprint(config).method.default_num_modules, most)]  # cuts for as many stages, all in one process
    uses_gpus = executor.device != "cpu" and torch.cuda.is_available()
    devices = torch.cuda.device_count() / executor.gpus_per_stage if uses_gpus else len(os.sched_getaffinity(0))
    return list(range(1, max(min(int(devices), most), 1) + 1))
