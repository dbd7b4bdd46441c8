"""A run with all that a person reads of it."""

from rich.console import Console

from isograd.report.summary import heading, summary
from isograd.run.experiment import Prepared, execute
from isograd.run.result import Result


def train(prepared: Prepared, console: Console) -> Result:
    """Executes a run: says what will run, its progress, and what came of it. Raises what ``execute`` does."""
    console.print(heading(prepared))
    result = execute(prepared, console)
    console.print(summary(result, prepared.folder.path))
    return result
