"""The verb `isograd tune`, and what `isograd resume` does with a study."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from isograd.system.arguments import Parser
from isograd.system.console import say, wide_console

if TYPE_CHECKING:
    from rich.console import Console

    from isograd.tune.study import Study

HELP = "search what a method has to choose"


def add_arguments(parser: Parser) -> None:
    """Adds the verb's arguments to its parser."""
    parser.add_argument("space", metavar="SPACE", help="name of a search space, or path of a YAML file")
    parser.add_overrides()
    parser.add_argument("--config", action="store_true", help="print the sweep's options and the space, and stop")
    parser.epilog = (
        "SPACE is the name of a search space, or the path of a YAML file; OPTION is tune.NAME of the sweep, "
        "space.PARAMETER.KEY of the space, or one of every run, which is then not searched."
    )
    parser.lists(_list_spaces)


def run(options: argparse.Namespace) -> int:
    """Searches, or only prints what would be searched."""
    if options.config:
        from isograd.tune.request import parse

        print(parse(options.space, options.overrides).to_yaml())
        return 0
    return exit_status(search(options.space, options.overrides, wide_console()))


def search(space: str, items: Sequence[str], console: "Console") -> "Study":
    """Begins a study, tries all that it is to try, says what came of it, and writes its report.

    Args:
        space: Name or path of the search space.
        items: Options of the sweep, the space and the runs; see :func:`~isograd.tune.request.parse`.
        console: For progress.

    Raises:
        IsogradError: What is asked for cannot be done; what has been tried until then is kept.
    """
    from isograd.tune.request import parse
    from isograd.tune.sweep import begin

    return _conclude(begin(parse(space, items), console).study, console)


def resume_search(folder: Path, extend: int, console: "Console", overrides: Sequence[str] = ()) -> "Study":
    """Goes on with the study of a folder; see :func:`~isograd.tune.sweep.resume`; otherwise as :func:`search`."""
    from isograd.tune.sweep import resume

    return _conclude(resume(folder, extend, console, overrides).study, console)


def exit_status(study: "Study") -> int:
    """Returns the exit status of a search: 1 where all of its trials failed."""
    return int(all(trial.state.name == "FAIL" for trial in study.trials))


def _conclude(study: "Study", console: "Console") -> "Study":
    from isograd.tune.results import assignment_of

    best = study.find_best()
    say(console, f"\n{best}")
    trials = {trial.number: trial for trial in study.trials}
    for number in sorted(best.values):
        say(console, f"trial {number}: {assignment_of(trials[number]).summary()}")
    say(console, f"study              {study.request.folder}")
    _report(study, console)
    return study


def _report(study: "Study", console: "Console") -> None:
    """Writes the study's report; where that fails, the sweep has its result all the same."""
    from isograd.studies.report import write_report

    folder = study.request.folder
    try:
        line = str(write_report(folder, lambda trouble: say(console, trouble)))
    except Exception as error:
        line = f"could not be written ({error}); `isograd report {folder}` tries again"
    say(console, f"report             {line}")


def _list_spaces() -> dict[str, Iterable[str]]:
    from isograd.tune.space_file import known_spaces

    return {"SPACE": known_spaces()}
