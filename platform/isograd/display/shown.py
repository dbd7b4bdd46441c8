"""A run with all that a person reads of it."""

from rich.console import Console

from isograd.display.summary import heading, summary
from isograd.executors.executor import Opener, make_executor
from isograd.run import checkpoint
from isograd.run.experiment import Prepared, execute
from isograd.run.result import Result
from isograd.system.console import say


def train(prepared: Prepared, console: Console, open_executor: Opener = make_executor) -> Result:
    """Executes a run: says what will run, its progress, and what came of it. Arguments and errors as of ``execute``."""
    say(console, heading(prepared))
    if prepared.note:
        say(console, prepared.note)
    try:
        result = execute(prepared, console, open_executor)
    except KeyboardInterrupt:
        if checkpoint.saved(prepared.folder.checkpoints):
            say(console, f"to go on           isograd resume {prepared.folder.path}")
        raise
    say(console, summary(result, prepared.folder.path))
    return result
