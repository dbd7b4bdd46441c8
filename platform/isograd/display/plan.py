"""What `isograd plan` prints: the partition, what each module and stage costs, and the forecasts."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from isograd.display.measures import SPEED
from isograd.display.run import span_modules
from isograd.display.tables import make_table
from isograd.engine.blueprint import Blueprint
from isograd.engine.contract import check_task
from isograd.errors import PartitionError
from isograd.executors.executor import layout_of
from isograd.partition.partition import Balanced, Published
from isograd.planning.cost import Cost, costs
from isograd.planning.forecast import Forecast
from isograd.planning.plan import Plan
from isograd.planning.profile import ModuleProfile

_TEXTS = ("units", "schedule")
_TIMES = ("forward", "loss", "backward", "update")


def render_counted(blueprint: Blueprint) -> RenderableType:
    """Returns the partition as a table of what can be counted without timing anything.

    Raises:
        IsogradError: The backbone cannot be cut so, where to cut it is not decided, or the task breaks its contract.
    """
    rule = blueprint.rule
    if isinstance(rule, Balanced) and not rule.ends and blueprint.num_modules > 1:
        raise PartitionError(
            "partition=balanced has no cuts that could be counted yet",
            "They follow from measured times, and --counted measures nothing",
            "Leave out --counted, or use partition=even.",
        )
    check_task(blueprint)
    config, partition = blueprint.config, blueprint.partition
    modules = blueprint.method.local_modules(partition, config.seed)
    counted = costs(modules, blueprint.task)
    batch_size, total_flops = config.data.batch_size, sum(cost.step_flops for cost in counted)
    rows = [
        (
            module.index,
            _span_units(module.unit_names),
            f"{cost.num_parameters:,}",
            f"{cost.num_auxiliary_parameters:,}",
            f"{cost.step_flops / 1e6:,.1f}",
            _write_mib(cost.activation_bytes * batch_size),
            _write_mib(cost.output_bytes * batch_size),
            f"{100 * cost.step_flops / total_flops:.1f} %",
        )
        for module, cost in zip(modules, counted, strict=True)
    ]
    heads = ("module", "units", "parameters", "auxiliary", "MFLOPs", "activations", "output", "share of cost")
    return Group(
        _describe(blueprint, counted),
        make_table(heads, rows, left=_TEXTS, overflow="fold"),
        f"Counted, not timed. FLOPs: one training step of one sample. Bytes: a batch of {batch_size}.",
    )


def render_plan(plan: Plan) -> RenderableType:
    """Returns partition, stages, forecasts and advice as tables."""
    blueprint, profile = plan.blueprint, plan.profile
    stages = [] if plan.pipelined is None else [_stage_table(plan.pipelined, layout_of(blueprint).stages), ""]
    return Group(
        _describe(blueprint, profile.modules),
        _module_table(blueprint, profile.modules),
        "",
        *stages,
        _forecast_table(plan),
        "",
        *_list_notes(plan),
        *[f"For more: {sentence}." for sentence in plan.advice],
    )


def _list_notes(plan: Plan) -> list[str]:
    profile, link, slowdowns = plan.profile, plan.machine.link, plan.machine.contention.slowdowns
    notes = [
        f"Times of modules are measured ({profile.hardware}, batch {profile.batch_size}); FLOPs and bytes of a batch "
        "are counted, periods modelled.",
    ]
    if plan.traditional:
        notes.append(
            f"Link: {1e3 * link.latency_s:.1f} ms and {link.bytes_per_s / 2**30:.1f} GiB/s, measured. "
            "Microbatch schedules train the units without auxiliary networks, and a microbatch is taken to cost its "
            "share of the batch."
        )
    if slowdowns:
        factors = ", ".join(f"{value:.2f}" for value in slowdowns)
        notes.append(
            f"Stages share this machine's cores: beside all others each takes {factors} times as long, measured."
        )
    return notes


def _describe(blueprint: Blueprint, modules: Sequence[Cost | ModuleProfile]) -> str:
    partition, rule = blueprint.partition, blueprint.rule
    table = f" partition.table={rule.table}" if isinstance(rule, Published) else ""
    num_auxiliary = sum(module.num_auxiliary_parameters for module in modules)
    num_parameters = sum(module.num_parameters for module in modules) - num_auxiliary
    return (
        f"{blueprint.config.method.name} on {partition.backbone.name}: {len(partition.backbone.units)} units in "
        f"{partition.num_modules} local modules (partition={rule.name}{table}), {num_parameters:,} parameters and "
        f"{num_auxiliary:,} in auxiliary networks"
    )


def _module_table(blueprint: Blueprint, modules: Sequence[ModuleProfile]) -> Table:
    rows = [
        (
            index,
            _span_units([unit.name for unit in blueprint.partition.units(index)]),
            f"{module.num_parameters:,}",
            f"{module.num_auxiliary_parameters:,}",
            f"{module.flops / 1e9:,.2f}",
            *(_write_ms(_sum_seconds(module, part)) for part in _TIMES),
            _write_mib(module.activation_bytes),
            _write_mib(module.output_bytes),
        )
        for index, module in enumerate(modules)
    ]
    heads = ("module", "units", "parameters", "auxiliary", "GFLOPs", *_TIMES, "activations", "output")
    return make_table(heads, rows, left=_TEXTS, overflow="fold")


def _sum_seconds(module: ModuleProfile, part: str) -> float:
    return sum(seconds for name, seconds in module.seconds.items() if part in name.split("/")[0])


def _stage_table(forecast: Forecast, stages: Sequence[range]) -> Table:
    rows = [
        (
            stage,
            span_modules(modules),
            _write_ms(forecast.timeline.busy_s(stage)),
            f"{100 * forecast.timeline.utilisation(stage):.0f} %",
            _write_mib(forecast.stage_bytes[stage]),
            _write_mib(forecast.sent_bytes[stage]),
        )
        for stage, modules in enumerate(stages)
    ]
    return make_table(("stage", "modules", "works", "utilisation", "memory", "sends"), rows, overflow="fold")


def _forecast_table(plan: Plan) -> Table:
    rows = [
        (
            forecast.schedule.name,
            len(forecast.schedule.devices),
            _write_ms(forecast.period_s),
            SPEED.number(forecast.samples_per_s),
            f"{plan.sequential.period_s / forecast.period_s:.2f}x",
            f"{100 * forecast.timeline.bubble:.0f} %",
            _write_mib(max(forecast.stage_bytes)),
        )
        for forecast in (plan.sequential, *([plan.pipelined] if plan.pipelined else []), *plan.traditional)
    ]
    heads = ("schedule", "devices", "period", SPEED.unit, "of sequential", "bubble", "largest memory")
    return make_table(heads, rows, left=_TEXTS, overflow="fold")


def _span_units(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} .. {names[-1]} ({len(names)})"


def _write_ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.1f} ms"


def _write_mib(num_bytes: float) -> str:
    return f"{num_bytes / 2**20:,.1f} MiB"
