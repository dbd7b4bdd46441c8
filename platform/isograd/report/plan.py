"""The table of `isograd plan`: what each local module is, and what it costs."""

from rich.console import Group, RenderableType
from rich.table import Table

from isograd.executor.blueprint import Blueprint
from isograd.local.module import LocalModule
from isograd.partition.cost import Cost, costs
from isograd.partition.partition import Published


def plan(blueprint: Blueprint) -> RenderableType:
    """Returns the partition as a table, auxiliary networks included.

    Raises:
        IsogradError: The backbone cannot be cut so.
    """
    config, partition = blueprint.config, blueprint.partition
    modules = blueprint.method.local_modules(partition, config.seed)
    found = costs(modules, partition.backbone.input_shape)
    num_backbone = sum(cost.num_parameters - cost.num_auxiliary_parameters for cost in found)
    title = (
        f"{config.method.name} on {partition.backbone.name}: {len(partition.backbone.units)} units in "
        f"{partition.num_modules} local modules ({_rule(blueprint)}), {num_backbone:,} parameters and "
        f"{sum(cost.num_auxiliary_parameters for cost in found):,} in auxiliary networks"
    )
    batch_size = config.data.batch_size
    note = f"Counted, not timed. FLOPs: one training step of one image. Bytes: a batch of {batch_size}."
    return Group(title, _table(modules, found, batch_size), note)


def _rule(blueprint: Blueprint) -> str:
    rule = blueprint.rule
    table = f" partition.table={rule.table}" if isinstance(rule, Published) else ""
    return f"partition={rule.name}{table}"


def _table(modules: list[LocalModule], found: list[Cost], batch_size: int) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("module", "units", "parameters", "auxiliary", "MFLOPs", "activations", "output", "share of cost"):
        table.add_column(column, justify="left" if column == "units" else "right", overflow="fold")
    total = sum(cost.step_flops for cost in found)
    for module, cost in zip(modules, found, strict=True):
        table.add_row(
            str(module.index),
            _units(module),
            f"{cost.num_parameters:,}",
            f"{cost.num_auxiliary_parameters:,}",
            f"{cost.step_flops / 1e6:,.1f}",
            f"{cost.activation_bytes * batch_size / 2**20:,.1f} MiB",
            f"{cost.output_bytes * batch_size / 2**20:,.2f} MiB",
            f"{100 * cost.step_flops / total:.1f} %",
        )
    return table


def _units(module: LocalModule) -> str:
    first, last, count = module.unit_names[0], module.unit_names[-1], len(module.unit_names)
    return first if count == 1 else f"{first} .. {last} ({count})"
