"""The verb `isograd tune`, and `isograd resume` of a study."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from isograd.system.console import say
from isograd.tune.request import parse
from isograd.tune.results import assignment_of
from isograd.tune.study import Study
from isograd.tune.sweep import begin, resume


def search(space: str, items: Sequence[str], console: Console) -> Study:
    """Begins a study, tries all that it is to try, says what came of it, and writes its report.

    Args:
        space: Name or path of the search space.
        items: Options of the sweep, the space and the runs; see :func:`~isograd.tune.request.parse`.
        console: For progress.

    Raises:
        IsogradError: What is asked for cannot be done; what has been tried until then is kept.
    """
    return _said(begin(parse(space, items), console).study, console)


def search_on(folder: Path, extend: int, console: Console, overrides: Sequence[str] = ()) -> Study:
    """Goes on with the study of a folder; see :func:`~isograd.tune.sweep.resume`; otherwise as :func:`search`."""
    return _said(resume(folder, extend, console, overrides).study, console)


def exit_status(study: Study) -> int:
    """Returns the exit status of a search: 1 where all of its trials failed."""
    return int(all(trial.state.name == "FAIL" for trial in study.trials))


def _said(study: Study, console: Console) -> Study:
    best = study.find_best()
    say(console, f"\n{best}")
    trials = {trial.number: trial for trial in study.trials}
    for number in sorted(best.values):
        say(console, f"trial {number}: {assignment_of(trials[number]).summary()}")
    say(console, f"study              {study.request.folder}")
    _report(study, console)
    return study


def _report(study: Study, console: Console) -> None:
    """Writes the study's report; where that fails, the sweep has its result all the same."""
    from isograd.studies.study_report import write_report

    def said(line: str) -> None:
        say(console, line)

    folder = study.request.folder
    try:
        said(f"report             {write_report(folder, said)}")
    except Exception as error:
        said(f"report             could not be written ({error}); `isograd report {folder}` tries again")
