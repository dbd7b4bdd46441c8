"""What `isograd train` says at its start and at its end."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table

if TYPE_CHECKING:
    from isograd.run.experiment import Prepared
    from isograd.run.result import Result


def heading(prepared: "Prepared") -> str:
    """Returns one line that says what will run."""
    config, partition = prepared.config, prepared.blueprint.partition
    source = prepared.program.source
    data = f"{config.data.name}: {source.num_train:,} images to train, {source.num_test:,} to test"
    resumed = "" if prepared.resumed is None else f", from step {prepared.resumed.position.step}"
    return (
        f"{config.method.name} on {partition.backbone.name}, {partition.num_modules} local modules, "
        f"{config.executor.name}; {data}, "
        f"batch {source.batch_size}, {config.train.epochs} epochs, seed {config.seed}{resumed}"
    )


def summary(result: "Result", folder: Path) -> RenderableType:
    """Returns the closing table: accuracies, speed, stages, and where the run folder is."""
    lines = [
        f"test accuracy      {_accuracy(result.test_error)} % (best epoch {_accuracy(result.best_test_error)} %)",
        f"local modules      {', '.join(_accuracy(error) for error in result.module_test_errors)} %",
        f"speed              {_number(result.images_per_s, ',.0f')} images/s, {_number(result.wall_s, '.1f')} s, "
        f"{_number(result.device_s, '.1f')} device seconds",
    ]
    timeline = [] if result.timeline is None else [f"timeline           {result.timeline}"]
    return Group(
        "",
        *lines,
        _stages(result),
        *timeline,
        f"run folder         {folder}",
        f"result             {folder / 'result.json'}",
    )


def _stages(result: "Result") -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("stage", "local modules", "device", "utilisation", "queue wait", "blocked", "peak memory", "sent"):
        table.add_column(column, justify="right", no_wrap=True)
    for stage in result.stages:
        table.add_row(
            str(stage["stage"]),
            module_range(stage["modules"]),
            stage["device"],
            f"{100 * stage['utilisation']:.1f} %",
            f"{stage['wait_s']:.2f} s",
            f"{stage['blocked_s']:.2f} s",
            f"{stage['peak_bytes'] / 2**20:,.0f} MiB",
            f"{stage['sent_bytes'] / 2**20:,.1f} MiB",
        )
    return table


def module_range(modules: Sequence[int]) -> str:
    """Returns the indices of a stage's consecutive local modules as text."""
    return f"{modules[0]} to {modules[-1]}" if len(modules) > 1 else str(modules[0])


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _accuracy(error: float | None) -> str:
    return "-" if error is None else f"{100 * (1 - error):.2f}"
