"""A trial of a study, to run again or to compare: ``STUDY/TRIAL``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from isograd.engine.config import RunConfig
from isograd.errors import StudyError
from isograd.system.paths import user_path
from isograd.tune.progress import best_of
from isograd.tune.records import read_records
from isograd.tune.request import is_study, kept, with_data
from isograd.tune.study import Outcome, Study, assignment_of, open_study, outcome_of
from isograd.tune.sweep_config import SweepConfig

BEST = "best"


@dataclass(frozen=True)
class Chosen:
    """A trial.

    Attributes:
        name: ``STUDY/TRIAL``, as it is shown.
        number: Of the trial.
        config: Of its runs, apart from the seed.
        seeds: Of its runs.
        outcome: What came of it.
        test_errors: (Seed, epoch) -> test error of the final module.
    """

    name: str
    number: int
    config: RunConfig
    seeds: tuple[int, ...]
    outcome: Outcome
    test_errors: dict[tuple[int, int], float]

    def config_of(self, seed: int) -> RunConfig:
        """Returns the configuration of a seed's run, which will have a folder of its own."""
        name = f"{self.name.replace('/', '-')}-seed{seed}"
        return replace(self.config, seed=seed, run_name=name)


def choose(text: str, overrides: Sequence[str] = ()) -> Chosen:
    """Finds a trial.

    Args:
        text: A study's folder, or its name in the default folder, a slash, and a number or ``best``; without these, the
            best one.
        overrides: Of its runs; if the data has moved, they say where it lies now.

    Raises:
        StudyError: There is no such study or trial, or it has no result.
    """
    folder, name = _located(text)
    study = open_study(with_data(kept(folder), overrides))
    number = _number(study, name, text)
    trial = next(trial for trial in study.trials if trial.number == number)
    outcome = outcome_of(trial)
    if outcome is None or not outcome.metrics:
        raise StudyError(
            f"trial {number} of {folder} has no result: it {'is not finished' if outcome is None else outcome.kind}",
            "There is no number that it could be held against",
            f"Use {folder}/{BEST}, or another trial.",
        )
    errors = {
        (record["seed"], record["epoch"]): record["test_error"]
        for record in read_records(folder)
        if record["trial"] == number
    }
    seeds = tuple(study.request.sweep.seeds)
    return Chosen(f"{study.request.name}/{number}", number, assignment_of(trial).config, seeds, outcome, errors)


def places_of(head: str) -> tuple[Path, Path]:
    """Returns where the study of ``HEAD/TRIAL`` may be: at a path, or by its name in the default folder."""
    return user_path(head), Path(SweepConfig().folder) / head


def _located(text: str) -> tuple[Path, str]:
    """Returns the study's folder, and which of its trials is meant."""
    head, _, name = text.rstrip("/").rpartition("/")
    candidates = [(path, BEST) for path in places_of(text)] + [(path, name) for path in places_of(head) if head]
    found = next(((path, which) for path, which in candidates if is_study(path)), None)
    if found is None:
        raise StudyError(
            f"'{text}' names no trial of a study: there is none in {' or '.join(map(str, places_of(head)))}",
            "A trial is a study's folder, a slash, and the trial's number",
            f"Use studies/NAME/12, or studies/NAME/{BEST}.",
        )
    return found[0].absolute(), found[1]


def _number(study: Study, name: str, text: str) -> int:
    best, numbers = best_of(study), [trial.number for trial in study.trials]
    if name == BEST and len(best.values) == 1:
        return next(iter(best.values))
    if name.isdecimal() and int(name) in numbers:
        return int(name)
    front = f"its front has {len(best.values)}: {sorted(best.values)}" if best.values else "none is complete"
    which = front if name == BEST else f"it has {len(numbers)}"
    known = sorted(best.values) if name == BEST and best.values else numbers
    raise StudyError(
        f"'{text}' names no trial: {which}",
        "A trial is named by its number; of one objective, the best one also by `best`",
        f"Use one of {', '.join(map(str, known[:8]))}{' ...' if len(known) > 8 else ''}.",
    )
