"""A run with all that a person reads of it: what will run, its progress, and what came of it."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType

from isograd.display.measures import ABSENT, SPEED, write_accuracy
from isograd.display.tables import make_table
from isograd.executors.executor import Opener, make_executor
from isograd.run import checkpoint
from isograd.run.experiment import Prepared, execute
from isograd.run.result import Result
from isograd.system.console import say


def train(prepared: Prepared, console: Console, open_executor: Opener = make_executor) -> Result:
    """Executes a run: says what will run, its progress, and what came of it. Arguments and errors as of ``execute``."""
    say(console, describe(prepared))
    if prepared.note:
        say(console, prepared.note)
    try:
        result = execute(prepared, console, open_executor)
    except KeyboardInterrupt:
        if checkpoint.saved(prepared.folder.checkpoints):
            say(console, f"to go on           isograd resume {prepared.folder.path}")
        raise
    say(console, summarize(result, prepared.folder.path))
    return result


def describe(prepared: Prepared) -> str:
    """Returns one line that says what will run."""
    config, partition = prepared.config, prepared.blueprint.partition
    source = prepared.program.source
    resumed = "" if prepared.resumed is None else f", from step {prepared.resumed.position.step}"
    return (
        f"{config.method.name} on {partition.backbone.name}, {partition.num_modules} local modules, "
        f"{config.executor.name}; {config.data.name}: {source.num_train:,} images to train, {source.num_test:,} to "
        f"test, batch {source.batch_size}, {config.train.epochs} epochs, seed {config.seed}{resumed}"
    )


def summarize(result: Result, folder: Path) -> RenderableType:
    """Returns the closing table: scores, speed, stages, and where the run folder is."""
    columns = ("stage", "local modules", "device", "utilisation", "queue wait", "blocked", "peak memory", "sent")
    stages = [
        (
            stage["stage"],
            span_modules(stage["modules"]),
            stage["device"],
            f"{100 * stage['utilisation']:.1f} %",
            f"{stage['wait_s']:.2f} s",
            f"{stage['blocked_s']:.2f} s",
            f"{stage['peak_bytes'] / 2**20:,.0f} MiB",
            f"{stage['sent_bytes'] / 2**20:,.1f} MiB",
        )
        for stage in result.stages
    ]
    return Group(
        "",
        f"test accuracy      {write_accuracy(result.test_error)} % "
        f"(best epoch {write_accuracy(result.best_test_error)} %)",
        f"local modules      {', '.join(map(write_accuracy, result.module_test_errors))} %",
        f"speed              {SPEED.number(result.images_per_s)} {SPEED.unit}, {_write_seconds(result.wall_s)} s, "
        f"{_write_seconds(result.device_s)} device seconds",
        make_table(columns, stages, no_wrap=True),
        *([] if result.timeline is None else [f"timeline           {result.timeline}"]),
        f"run folder         {folder}",
        f"result             {folder / 'result.json'}",
    )


def span_modules(modules: Sequence[int]) -> str:
    """Returns the indices of a stage's consecutive local modules as text."""
    return f"{modules[0]} to {modules[-1]}" if len(modules) > 1 else str(modules[0])


def _write_seconds(seconds: float | None) -> str:
    return ABSENT if seconds is None else f"{seconds:.1f}"
