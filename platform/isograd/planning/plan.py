"""A run before it starts: partition, costs, forecasts, and what to change for more."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig
from isograd.engine.contract import check_task
from isograd.executors.executor import check, executor_of, layout_of
from isograd.executors.pipeline.config import PipelinedConfig
from isograd.partition.balance import Limits, balanced
from isograd.partition.partition import Balanced
from isograd.planning.choose import finest, module_pieces, resolved
from isograd.planning.contention import contention
from isograd.planning.forecast import Forecast, Forecaster, Machine
from isograd.planning.link import link
from isograd.planning.profile import Profile, profile
from isograd.schedules.simulation import Contention, Link

_WORTH_SAYING = 1.1  # a change that shortens the period less than so many times is not advised


@dataclass(frozen=True)
class Plan:
    """What `isograd plan` prints.

    Attributes:
        blueprint: With everything decided.
        profile: What its modules cost.
        machine: Link and contention, measured here.
        sequential: One device for all modules.
        pipelined: PPLL; None for a single stage.
        traditional: The microbatch schedules over the same stages.
        advice: What would make it faster, as sentences.
    """

    blueprint: Blueprint
    profile: Profile
    machine: Machine
    sequential: Forecast
    pipelined: Forecast | None
    traditional: tuple[Forecast, ...]
    advice: tuple[str, ...]


def make_plan(config: RunConfig, cache: Path | None = None) -> Plan:
    """Decides what the configuration leaves open, and forecasts.

    Raises:
        IsogradError: The backbone cannot be cut so.
    """
    blueprint = Blueprint(resolved(config, cache=cache))
    check_task(blueprint)
    check(blueprint)
    if unit_stages := executor_of(blueprint.config).unit_stages(blueprint):
        return _plan_of_units(blueprint, unit_stages, cache)
    forecaster, stages = _forecaster(blueprint, cache), layout_of(blueprint).stages
    is_pipelined = len(stages) > 1
    pipelined = forecaster.pipelined(stages) if is_pipelined else None
    return Plan(
        blueprint,
        forecaster.profile,
        forecaster.machine,
        forecaster.sequential(),
        pipelined,
        tuple(forecaster.traditional(stages)) if is_pipelined else (),
        tuple(_advice(forecaster, pipelined, isinstance(blueprint.rule, Balanced))),
    )


def _plan_of_units(blueprint: Blueprint, stages: Sequence[range], cache: Path | None) -> Plan:
    """Plans an end-to-end pipeline."""
    over_units, found = _over_units(blueprint, cache), profile(blueprint, cache=cache)
    sequential = Forecaster.of(blueprint, found, Machine()).sequential()
    return Plan(blueprint, found, over_units.machine, sequential, None, tuple(over_units.traditional(stages)), ())


def forecast(blueprint: Blueprint, cache: Path | None = None) -> Forecast:
    """Forecasts what the blueprint's own executor will do, all decided."""
    return executor_of(blueprint.config).forecast(blueprint, _Measured(blueprint, cache))


@dataclass(frozen=True)
class _Measured:
    """Measures what a forecast needs. Implements :class:`~isograd.executors.executor.Forecasts`."""

    blueprint: Blueprint
    cache: Path | None

    def sequential(self) -> Forecast:
        return _forecaster(self.blueprint, self.cache).sequential()

    def pipelined(self, stages: Sequence[range]) -> Forecast:
        return _forecaster(self.blueprint, self.cache).pipelined(stages)

    def microbatched(self, stages: Sequence[range], name: str, num_microbatches: int, chunks: int) -> Forecast:
        return _over_units(self.blueprint, self.cache).microbatched(stages, name, num_microbatches, chunks)


def _over_units(blueprint: Blueprint, cache: Path | None) -> Forecaster:
    """Units are profiled one by one, since an end-to-end pipeline's cuts may be anywhere."""
    units = finest(blueprint)
    return Forecaster.of(units, profile(units, cache=cache), Machine(_link(blueprint, cache)))


def _forecaster(blueprint: Blueprint, cache: Path | None) -> Forecaster:
    machine = _machine(blueprint, cache) if layout_of(blueprint).num_stages > 1 else Machine()
    return Forecaster.of(blueprint, profile(blueprint, cache=cache), machine)


def _machine(blueprint: Blueprint, cache: Path | None) -> Machine:
    """Measures what is between the stages. On GPUs each stage has one, and nothing slows it down."""
    executor = PipelinedConfig.of(blueprint.config.executor)
    shares_cores = executor.device == "cpu" or not torch.cuda.is_available()
    slowed = contention(blueprint, cache) if shares_cores else Contention()
    return Machine(_link(blueprint, cache), slowed, tuple(executor.speeds or ()))


def _link(blueprint: Blueprint, cache: Path | None) -> Link:
    return link(blueprint.config.executor, blueprint.config.cluster, cache)


def _advice(forecaster: Forecaster, pipelined: Forecast | None, is_balanced: bool) -> Iterator[str]:
    """Says what would be faster: other stages for the same modules, other cuts, more devices."""
    now = forecaster.sequential() if pipelined is None else pipelined
    num_stages = len(now.schedule.devices)
    if num_stages > 1 and not is_balanced:
        yield from _imbalance(now)
    for count in (num_stages, 2 * num_stages, 4 * num_stages):
        if 1 < count <= len(forecaster.profile.modules):
            yield from _other_stages(forecaster, now, count)


def _imbalance(now: Forecast) -> Iterator[str]:
    busy_s = [now.timeline.busy_s(stage) for stage in range(len(now.schedule.devices))]
    ratio = max(busy_s) * len(busy_s) / sum(busy_s)
    if ratio > _WORTH_SAYING:
        yield (
            f"stage {busy_s.index(max(busy_s))} works {ratio:.2f} times as long as the mean stage: "
            f"partition=balanced cuts by cost"
        )


def _other_stages(forecaster: Forecaster, now: Forecast, count: int) -> Iterator[str]:
    is_same = count == len(now.schedule.devices)
    speeds = forecaster.machine.speeds if is_same else ()
    pieces = module_pieces(forecaster.profile)
    found = balanced(pieces, len(pieces), Limits(speeds or (1.0,) * count, forecaster.machine.link.bytes_per_s))
    machine = forecaster.machine if is_same else Machine(forecaster.machine.link)
    better = replace(forecaster, machine=machine).pipelined(found.stages)
    if now.period_s > _WORTH_SAYING * better.period_s:
        where = "these stages" if is_same else f"{count} stages, each on a device of its own,"
        sizes = ",".join(str(len(stage)) for stage in found.stages)
        yield (
            f"{where} with executor.num_stages={count} executor.modules_per_stage=[{sizes}]: a period of "
            f"{1e3 * better.period_s:,.1f} ms, {now.period_s / better.period_s:.2f} times as fast"
        )
