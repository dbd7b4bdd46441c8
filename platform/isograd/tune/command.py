"""The verb `isograd tune`, and `isograd resume` of a study."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from isograd.tune.progress import best_of, brief
from isograd.tune.request import parse
from isograd.tune.study import Study, assignment_of
from isograd.tune.sweep import begin, resume


def tune(space: str, items: Sequence[str], console: Console) -> int:
    """Begins a study and tries all that it is to try. Returns the exit status."""
    return _said(begin(parse(space, items), console), console)


def resume_study(folder: Path, extend: int, console: Console) -> int:
    """Goes on with a study. Returns the exit status."""
    return _said(resume(folder, extend, console), console)


def _said(study: Study, console: Console) -> int:
    best = best_of(study)
    console.print(f"\n{best}", markup=False)
    settings = {trial.number: assignment_of(trial).settings for trial in study.trials}
    for number in sorted(best.values):
        console.print(f"trial {number}: {brief(settings[number])}", markup=False, soft_wrap=True)
    console.print(f"study              {study.request.folder}", markup=False, soft_wrap=True)
    _report(study, console)
    return 0


def _report(study: Study, console: Console) -> None:
    """Writes the study's report; where that fails, the sweep has its result all the same."""
    from isograd.analysis.study_report import write_report

    def said(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    folder = study.request.folder
    try:
        said(f"report             {write_report(folder, said)}")
    except Exception as error:
        said(f"report             could not be written ({error}); `isograd report {folder}` tries again")

