"""A trial of a study, ``STUDY/TRIAL``, found to be compared or to run again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from isograd.config.load import changing, overridden
from isograd.display.measures import SCORE, Measure
from isograd.engine.config import RunConfig, fingerprint, rounding
from isograd.errors import ConfigError, StudyError
from isograd.system.paths import user_path
from isograd.tune.judge import read_scores
from isograd.tune.request import is_study, read_request, relocate_data
from isograd.tune.results import Outcome, assignment_of, outcome_of, read_records
from isograd.tune.study import Study, open_study
from isograd.tune.sweep_config import SweepConfig

BEST = "best"


@dataclass(frozen=True)
class TrialChoice:
    """A trial.

    Attributes:
        name: ``STUDY/TRIAL``, as it is shown.
        number: Of the trial.
        config: Of its runs, apart from the seed.
        seeds: Of its runs.
        outcome: What came of it.
        scores: (Seed, epoch) -> score of the final module on the validation split.
        measure: Of the score.
    """

    name: str
    number: int
    config: RunConfig
    seeds: tuple[int, ...]
    outcome: Outcome
    scores: dict[tuple[int, int], float]
    measure: Measure

    def configs(self, overrides: Sequence[str]) -> list[RunConfig]:
        """Returns the configurations of its runs with overrides, one a seed; each has a run folder of its own.

        Raises:
            ConfigError: An override would change the trial's numbers.
        """
        name = self.name.replace("/", "-")
        return [self._override(replace(self.config, seed=s, run_name=f"{name}-seed{s}"), overrides) for s in self.seeds]

    def _override(self, config: RunConfig, overrides: Sequence[str]) -> RunConfig:
        changed = overridden(config, overrides)
        if refused := changing(config, overrides, _numeric_part):
            raise ConfigError(
                f"{' '.join(refused)} changes what the trial computes",
                "A trial that runs again is to come to the same numbers",
                "Use overrides of executor (but for threads and microbatches), cluster, checkpoint, folder, run_name "
                "and data.path.",
            )
        if changed.run_name != config.run_name and len(self.seeds) > 1:
            return replace(changed, run_name=f"{changed.run_name}-seed{config.seed}")
        return changed


def _numeric_part(config: RunConfig) -> tuple[Any, ...]:
    """Returns what the numbers of a run depend on."""
    return fingerprint(config), rounding(config), config.train


def choose(text: str, overrides: Sequence[str] = ()) -> TrialChoice:
    """Finds a trial.

    Args:
        text: A study's folder, or its name in the default folder, a slash, and a number or ``best``; without these, the
            best one.
        overrides: Of its runs; if the data has moved, they say where it lies now.

    Raises:
        StudyError: There is no such study or trial, or it has no result.
    """
    folder, name = _locate(text)
    study = open_study(relocate_data(read_request(folder), overrides))
    number = _number_of(study, name, text)
    trial = next(trial for trial in study.trials if trial.number == number)
    outcome = outcome_of(trial)
    if outcome is None or not outcome.metrics:
        raise StudyError(
            f"trial {number} of {folder} has no result: it {'is not finished' if outcome is None else outcome.kind}",
            "There is no number that it could be held against",
            f"Use {folder}/{BEST}, or another trial.",
        )
    request = study.request
    records = [record for record in read_records(folder) if record["trial"] == number]
    return TrialChoice(
        f"{request.name}/{number}",
        number,
        assignment_of(trial).config,
        tuple(request.sweep.seeds),
        outcome,
        read_scores(records, request.score),
        request.measures[SCORE],
    )


def study_folders(head: str) -> tuple[Path, Path]:
    """Returns where the study of ``HEAD/TRIAL`` may be: at a path, or by its name in the default folder."""
    return user_path(head), Path(SweepConfig().folder) / head


def _locate(text: str) -> tuple[Path, str]:
    """Returns the study's folder, and which of its trials is meant."""
    head, _, name = text.rstrip("/").rpartition("/")
    candidates = [(path, BEST) for path in study_folders(text)] + [(path, name) for path in study_folders(head) if head]
    for path, which in candidates:
        if is_study(path):
            return path.absolute(), which
    raise StudyError(
        f"'{text}' names no trial of a study: there is none in {' or '.join(map(str, study_folders(head)))}",
        "A trial is a study's folder, a slash, and the trial's number",
        f"Use studies/NAME/12, or studies/NAME/{BEST}.",
    )


def _number_of(study: Study, name: str, text: str) -> int:
    best, numbers = sorted(study.find_best().values), [trial.number for trial in study.trials]
    if name == BEST and len(best) == 1:
        return best[0]
    if name.isdecimal() and int(name) in numbers:
        return int(name)
    front = f"its front has {len(best)}: {best}" if best else "none is complete"
    which = front if name == BEST else f"it has {len(numbers)}"
    known = best if name == BEST and best else numbers
    raise StudyError(
        f"'{text}' names no trial: {which}",
        "A trial is named by its number; of one objective, the best one also by `best`",
        f"Use one of {', '.join(map(str, known[:8]))}{' ...' if len(known) > 8 else ''}.",
    )
