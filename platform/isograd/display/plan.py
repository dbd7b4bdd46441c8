"""What `isograd plan` prints: the partition, what each module and stage costs, and the forecasts."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from isograd.display.summary import module_range
from isograd.engine.blueprint import Blueprint
from isograd.errors import PartitionError
from isograd.executors.executor import layout_of
from isograd.local.module import LocalModule
from isograd.partition.partition import Balanced, Published
from isograd.planning.cost import Cost, costs
from isograd.planning.forecast import Forecast
from isograd.planning.plan import Plan
from isograd.planning.profile import ModuleProfile


def counted(blueprint: Blueprint) -> RenderableType:
    """Returns the partition as a table of what can be counted without timing anything.

    Raises:
        IsogradError: The backbone cannot be cut so, or where to cut it is not decided.
    """
    rule = blueprint.rule
    if isinstance(rule, Balanced) and not rule.ends and blueprint.num_modules > 1:
        raise PartitionError(
            "partition=balanced has no cuts that could be counted yet",
            "They follow from measured times, and --counted measures nothing",
            "Leave out --counted, or use partition=even.",
        )
    config, partition = blueprint.config, blueprint.partition
    modules = blueprint.method.local_modules(partition, config.seed)
    found = costs(modules, blueprint.task)
    batch_size = config.data.batch_size
    note = f"Counted, not timed. FLOPs: one training step of one image. Bytes: a batch of {batch_size}."
    return Group(_title(blueprint, found), _counted(modules, found, batch_size), note)


def planned(plan: Plan) -> RenderableType:
    """Returns partition, stages, forecasts and advice as tables."""
    blueprint, profile = plan.blueprint, plan.profile
    total = sum(module.num_parameters - module.num_auxiliary_parameters for module in profile.modules)
    auxiliary = sum(module.num_auxiliary_parameters for module in profile.modules)
    link = plan.machine.link
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
    slowdowns = plan.machine.contention.slowdowns
    if slowdowns:
        factors = ", ".join(f"{value:.2f}" for value in slowdowns)
        notes.append(
            f"Stages share this machine's cores: beside all others each takes {factors} times as long, measured."
        )
    return Group(
        _heading(blueprint, total, auxiliary),
        _modules(blueprint, profile.modules),
        "",
        *([_stages(plan.pipelined, layout_of(blueprint).stages), ""] if plan.pipelined is not None else []),
        _forecasts(plan),
        "",
        *notes,
        *[f"For more: {sentence}." for sentence in plan.advice],
    )


def _title(blueprint: Blueprint, found: Sequence[Cost]) -> str:
    auxiliary = sum(cost.num_auxiliary_parameters for cost in found)
    return _heading(blueprint, sum(cost.num_parameters for cost in found) - auxiliary, auxiliary)


def _heading(blueprint: Blueprint, num_parameters: int, num_auxiliary: int) -> str:
    partition = blueprint.partition
    return (
        f"{blueprint.config.method.name} on {partition.backbone.name}: {len(partition.backbone.units)} units in "
        f"{partition.num_modules} local modules ({_rule(blueprint)}), {num_parameters:,} parameters and "
        f"{num_auxiliary:,} in auxiliary networks"
    )


def _rule(blueprint: Blueprint) -> str:
    rule = blueprint.rule
    table = f" partition.table={rule.table}" if isinstance(rule, Published) else ""
    return f"partition={rule.name}{table}"


def _modules(blueprint: Blueprint, modules: Sequence[ModuleProfile]) -> Table:
    times = ("forward", "loss", "backward", "update")
    table = _table("module", "units", "parameters", "auxiliary", "GFLOPs", *times, "activations", "output")
    for index, module in enumerate(modules):
        table.add_row(
            str(index),
            _span([unit.name for unit in blueprint.partition.units(index)]),
            f"{module.num_parameters:,}",
            f"{module.num_auxiliary_parameters:,}",
            f"{module.flops / 1e9:,.2f}",
            *(_ms(_seconds(module, part)) for part in times),
            _mib(module.activation_bytes),
            _mib(module.output_bytes),
        )
    return table


def _seconds(module: ModuleProfile, part: str) -> float:
    return sum(seconds for name, seconds in module.seconds.items() if part in name.split("/")[0])


def _stages(forecast: Forecast, stages: Sequence[range]) -> Table:
    table = _table("stage", "modules", "works", "utilisation", "memory", "sends")
    for stage, modules in enumerate(stages):
        table.add_row(
            str(stage),
            module_range(modules),
            _ms(forecast.timeline.busy_s(stage)),
            f"{100 * forecast.timeline.utilisation(stage):.0f} %",
            _mib(forecast.stage_bytes[stage]),
            _mib(forecast.sent_bytes[stage]),
        )
    return table


def _forecasts(plan: Plan) -> Table:
    table = _table("schedule", "devices", "period", "images/s", "of sequential", "bubble", "largest memory")
    shown = [plan.sequential, *([plan.pipelined] if plan.pipelined else []), *plan.traditional]
    for forecast in shown:
        table.add_row(
            forecast.schedule.name,
            str(len(forecast.schedule.devices)),
            _ms(forecast.period_s),
            f"{forecast.images_per_s:,.0f}",
            f"{plan.sequential.period_s / forecast.period_s:.2f}x",
            f"{100 * forecast.timeline.bubble:.0f} %",
            _mib(max(forecast.stage_bytes)),
        )
    return table


def _counted(modules: Sequence[LocalModule], found: Sequence[Cost], batch_size: int) -> Table:
    table = _table("module", "units", "parameters", "auxiliary", "MFLOPs", "activations", "output", "share of cost")
    total = sum(cost.step_flops for cost in found)
    for module, cost in zip(modules, found, strict=True):
        table.add_row(
            str(module.index),
            _span(module.unit_names),
            f"{cost.num_parameters:,}",
            f"{cost.num_auxiliary_parameters:,}",
            f"{cost.step_flops / 1e6:,.1f}",
            _mib(cost.activation_bytes * batch_size),
            _mib(cost.output_bytes * batch_size),
            f"{100 * cost.step_flops / total:.1f} %",
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in ("units", "schedule") else "right", overflow="fold")
    return table


def _span(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} .. {names[-1]} ({len(names)})"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.1f} ms"


def _mib(num_bytes: float) -> str:
    return f"{num_bytes / 2**20:,.1f} MiB"
