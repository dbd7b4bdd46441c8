"""What a comparison of finished runs consists of: run folders, grouped by configuration, and trials of studies."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from isograd.display.measures import SCORE
from isograd.errors import ConfigError
from isograd.studies.records import FinishedRun, group_by_config, is_finished, read_run
from isograd.studies.trials import StudyTrial, find_trial


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seeds only.

    Attributes:
        label: What they are called.
        runs: At least one.
        remarks: What a reader of their figures must know.
    """

    label: str
    runs: tuple[FinishedRun, ...]
    remarks: tuple[str, ...] = ()


def read_groups(paths: Sequence[Path]) -> list[Group]:
    """Reads finished runs and trials, in the order in which they come.

    A trial is called by its method; where that would not tell it from others, by its study and number as well.

    Raises:
        IsogradError: One of them cannot be read, a trial is not complete, or comes twice.
    """
    finished = [path for path in paths if is_finished(path)]
    groups = group_by_config(map(read_run, finished))
    trials = {path: find_trial(str(path)) for path in paths if path not in finished}
    _check_once(trials)
    by_path = {runs[0].folder: Group(label, tuple(runs)) for label, runs in groups.items()}
    for (path, trial), label in zip(trials.items(), _label_trials(list(trials.values()), list(groups)), strict=True):
        by_path[path] = Group(label, tuple(trial.runs), (_remark(trial),))
    return [by_path[path] for path in paths if path in by_path]


def _label_trials(trials: Sequence[StudyTrial], taken: Sequence[str]) -> list[str]:
    """Returns for each trial the shortest name that nothing else has."""
    methods = [str(trial.trial.config["method"]["name"]) for trial in trials]
    named = [f"{method} {trial.name}" for method, trial in zip(methods, trials, strict=True)]
    full = [f"{method} {trial.path}" for method, trial in zip(methods, trials, strict=True)]
    counts = Counter([*taken, *methods]), Counter([*taken, *named])
    return [
        next((name for name, count in zip(names, counts, strict=False) if count[name] == 1), names[-1])
        for names in zip(methods, named, full, strict=True)
    ]


def _remark(trial: StudyTrial) -> str:
    study = trial.study
    how = "the best" if study.best is trial.trial else "one"
    return (
        f"trial {trial.trial.number} of study {study.name}, {how} of {len(study.complete)} complete ones among "
        f"{len(study.trials)}; a trial that was chosen by its {study.measures[SCORE].label} is flattered by it; trials "
        "that ran side by side slowed each other down"
    )


def _check_once(trials: Mapping[Path, StudyTrial]) -> None:
    first: dict[Path, Path] = {}
    for path, trial in trials.items():
        other = first.setdefault(trial.path, path)
        if other is not path:
            raise ConfigError(
                f"{other} and {path} are the same trial, {trial.trial.number} of study {trial.study.name}",
                "Its runs would count twice",
                "Use only one of the two.",
            )
