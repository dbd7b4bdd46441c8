"""A run with all that a person reads of it: what will run, its progress, and what came of it."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType

from isograd.display.measures import SPEED, Measure
from isograd.display.tables import make_table
from isograd.executors.executor import Opener, make_executor
from isograd.run import checkpoint
from isograd.run.experiment import Prepared, execute
from isograd.run.record import RunRecord
from isograd.system.console import say


def train(prepared: Prepared, console: Console, open_executor: Opener = make_executor) -> RunRecord:
    """Executes a run: says what will run, its progress, and what came of it. Arguments and errors as of ``execute``."""
    say(console, describe(prepared))
    if prepared.note:
        say(console, prepared.note)
    try:
        record = execute(prepared, console, open_executor)
    except KeyboardInterrupt:
        if checkpoint.saved(prepared.folder.checkpoints):
            say(console, f"to go on           isograd resume {prepared.folder.path}")
        raise
    say(console, summarize(record, prepared.folder.path))
    return record


def describe(prepared: Prepared) -> str:
    """Returns one line that says what will run."""
    config, partition = prepared.config, prepared.blueprint.partition
    source = prepared.program.source
    valid = f"{source.num_valid:,} to validate, " if source.num_valid else ""
    splits = f"{source.num_train:,} samples to train, {valid}{source.num_test:,} to test"
    resumed = "" if prepared.resumed is None else f", from step {prepared.resumed.position.step}"
    return (
        f"{config.method.name} on {partition.backbone.name}, {partition.num_modules} local modules, "
        f"{config.executor.name}; {config.data.name}: {splits}, "
        f"batch {source.batch_size}, {config.train.epochs} epochs, seed {config.seed}{resumed}"
    )


def summarize(record: RunRecord, folder: Path) -> RenderableType:
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
        for stage in record.stages
    ]
    judged, tested = Measure.of(record.score, record.split), Measure.of(record.score, "test")
    return Group(
        "",
        f"{judged.label:<18} {judged.text(record.final)} (best epoch {judged.text(record.best)})",
        *([] if judged == tested else [f"{tested.label:<18} {tested.text(record.test)}"]),
        f"local modules      {', '.join(map(judged.number, record.module_scores))} {judged.unit}".rstrip(),
        f"speed              {SPEED.text(record.samples_per_s)}, {record.wall_s:.1f} s, "
        f"{record.device_s:.1f} device seconds",
        make_table(columns, stages, no_wrap=True),
        *([] if record.timeline is None else [f"timeline           {record.timeline}"]),
        f"run folder         {folder}",
        f"result             {folder / 'result.json'}",
    )


def span_modules(modules: Sequence[int]) -> str:
    """Returns the indices of a stage's consecutive local modules as text."""
    return f"{modules[0]} to {modules[-1]}" if len(modules) > 1 else str(modules[0])
