"""A study's trial as records of finished runs, one a seed, from the study's table alone."""

import errno
from dataclasses import dataclass, replace
from pathlib import Path

from isograd.config.load import from_dict
from isograd.engine.config import fingerprint
from isograd.errors import StudyError
from isograd.run.record import RunRecord
from isograd.studies.reading import find_table, load_study
from isograd.studies.records import FinishedRun
from isograd.studies.study import StudyTable, Trial
from isograd.system.paths import user_path
from isograd.tune.choice import BEST, study_folders
from isograd.tune.request import is_study


@dataclass(frozen=True)
class StudyTrial:
    """A complete trial, and the study that it is one of."""

    study: StudyTable
    trial: Trial

    @property
    def name(self) -> str:
        """``STUDY/TRIAL``."""
        return f"{self.study.name}/{self.trial.number}"

    @property
    def path(self) -> Path:
        """The trial as a command line names it from anywhere."""
        return self.study.path / str(self.trial.number)

    @property
    def runs(self) -> list[FinishedRun]:
        """One a seed."""
        return [self._run(seed, record) for seed, record in self.trial.records.items()]

    def _run(self, seed: int, record: RunRecord) -> FinishedRun:
        config = replace(from_dict(dict(self.trial.config)), seed=seed)
        return FinishedRun(self.path, config, replace(record, fingerprint=fingerprint(config)), self.study.data)


def is_trial(item: str) -> bool:
    """Whether ``item`` names a study, or a trial of one, whether or not the study has that trial."""
    try:
        return _split(item) is not None
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def find_trial(item: str) -> StudyTrial:
    """Finds a trial.

    Args:
        item: A study's folder or table, or its name in the default folder, a slash, and a number or ``best``; a folder
            or table alone means its best.

    Raises:
        StudyError: There is no such study or trial, or it is not complete.
    """
    place = _split(item)
    if place is None:
        raise StudyError(
            f"'{item}' names no trial: there is no such study",
            "A trial is a study's folder, a slash, and the trial's number",
            f"Use studies/NAME/12, or studies/NAME/{BEST}.",
        )
    path, name = place
    study = load_study(path)
    trial = _find_best(study) if name == BEST else study.trial(int(name))
    if not trial.is_complete:
        raise StudyError(
            f"trial {trial.number} of study {study.name} is not complete: {trial.kind} after {trial.epoch} of "
            f"{study.num_epochs} epochs",
            "Its numbers would stand beside those of whole trainings",
            f"Use {item.rstrip('/').rpartition('/')[0]}/{BEST}, or another complete trial.",
        )
    return StudyTrial(study, trial)


def _split(item: str) -> tuple[Path, str] | None:
    """Returns a study's path and which of its trials is meant; None: ``item`` names no study."""
    text = item.rstrip("/")
    if _has_study(user_path(text)):
        return user_path(text), BEST
    head, slash, name = text.rpartition("/")
    if not slash or not (name == BEST or name.isdecimal()):
        return None
    return next(((path, name) for path in study_folders(head) if _has_study(path)), None)


def _has_study(path: Path) -> bool:
    return find_table(path) is not None or is_study(user_path(path))


def _find_best(study: StudyTable) -> Trial:
    if study.best is None:
        front = [trial.number for trial in study.front()]
        kinds = f"its front has {len(front)}: {front}" if front else f"none of its {len(study.trials)} is complete"
        raise StudyError(
            f"study {study.name} has no best trial: {kinds}",
            "A comparison needs one complete trial",
            f"Use {study.path}/{front[0]}, for example." if front else "Use `isograd resume` to go on with the study.",
        )
    return study.best
