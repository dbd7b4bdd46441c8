"""The verb `isograd tune`, and `isograd resume` of a study."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from isograd.tune.progress import brief
from isograd.tune.request import Request, parse
from isograd.tune.study import Study, assignment_of
from isograd.tune.sweep import begin, reopen, sweep


def tune(space: str, items: Sequence[str], console: Console) -> int:
    """Begins a study and tries all that it is to try. Returns the exit status."""
    request = parse(space, items)
    return _run(begin(request), console)


def resume_study(folder: Path, extend: int, console: Console) -> int:
    """Goes on with a study. Returns the exit status."""
    return _run(reopen(folder, extend), console)


def _run(study: Study, console: Console) -> int:
    console.print(_heading(study), markup=False, soft_wrap=True)
    best = sweep(study, console)
    console.print(f"\n{best}", markup=False)
    settings = {trial.number: assignment_of(trial).settings for trial in study.trials}
    for number in sorted(best.values):
        console.print(f"trial {number}: {brief(settings[number])}", markup=False, soft_wrap=True)
    console.print(f"study              {study.request.folder}", markup=False, soft_wrap=True)
    return 0


def _heading(study: Study) -> str:
    request: Request = study.request
    config, base = request.sweep, request.base
    seeds = f"{len(config.seeds)} seeds" if len(config.seeds) > 1 else f"seed {config.seeds[0]}"
    return (
        f"{request.name}: {len(request.file.space.parameters)} parameters of {request.file.name}, "
        f"{study.num_left} of {study.num_trials} trials left, {base.train.epochs} epochs, {seeds}, "
        f"{config.sampler}, {config.scheduler}, minimising {', '.join(config.objectives)}"
    )
