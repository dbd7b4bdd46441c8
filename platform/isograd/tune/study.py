"""A study: which configurations have been tried and what came of them, in Optuna's storage.

The storage alone says what is left to do. So a sweep that was broken off goes on from it, and one that has finished is
extended with all that its searcher knew. Everything here runs in the driver and needs no Ray.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from isograd.config.load import fingerprint, from_dict, to_dict
from isograd.config.schema import RunConfig
from isograd.errors import IsogradError, StudyError
from isograd.executor.blueprint import Blueprint
from isograd.planning.choose import with_cuts
from isograd.registry import suggestion
from isograd.seeding import derive
from isograd.tune.distributions import Settings
from isograd.tune.ground import changed, ground_of
from isograd.tune.request import Request, keep
from isograd.tune.samplers import make_sampler
from isograd.tune.storage import default_url, open_storage, storage_errors

_IDENTITY, _NUM_TRIALS = "isograd", "num_trials"
_ASSIGNED, _OUTCOME, _REFUSED = "assigned", "outcome", "refused"
_MOST_REFUSALS, _INSISTENCE = 100, 5


@dataclass(frozen=True)
class Assignment:
    """A configuration to try.

    Attributes:
        number: Of the trial.
        config: Of its runs, apart from seed and folder.
        settings: What sets it apart from other trials, by option.
    """

    number: int
    config: RunConfig
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        kind: ``complete``; ``pruned`` (stopped early, behind others); ``failed``; ``lost`` (its process or node).
        metrics: At its end, means over seeds; of a trial that failed or was lost, none.
        epoch: The last one that it trained.
        reason: Why it failed or was lost.
        runs: One a seed; see :class:`~isograd.tune.legs.SeedRun`.
        host: Where it ended.
    """

    kind: str
    metrics: Mapping[str, float]
    epoch: int
    reason: str = ""
    runs: Sequence[Mapping[str, Any]] = ()
    host: str = ""


class Study:
    """Proposes configurations, and takes what comes of them.

    Args:
        request: What is searched.
        storage: Where it is kept; see :func:`open_study`.
    """

    def __init__(self, request: Request, url: str, study: optuna.Study) -> None:
        self.request, self.url, self._study = request, url, study
        self._ground = ground_of(request.base)
        self._assigned: dict[int, Trial] = {}
        self._reported: set[tuple[int, int]] = set()
        self._known: dict[str, int] = {}
        for trial in self._trials():
            if _ASSIGNED in trial.user_attrs and trial.state != TrialState.FAIL:
                self._known.setdefault(trial.user_attrs[_ASSIGNED]["fingerprint"], trial.number)

    @property
    def num_trials(self) -> int:
        """How many configurations the study is to try."""
        return self._study.user_attrs[_NUM_TRIALS]

    def extend(self, num_trials: int) -> None:
        """Lets it try so many more."""
        with storage_errors(self.url):
            self._study.set_user_attr(_NUM_TRIALS, self.num_trials + num_trials)

    @property
    def trials(self) -> list[FrozenTrial]:
        """Those that were assigned, in order."""
        return [trial for trial in self._trials() if _ASSIGNED in trial.user_attrs]

    @property
    def num_left(self) -> int:
        """Trials that have no outcome yet, those not proposed yet included."""
        return self.num_trials - sum(_OUTCOME in trial.user_attrs for trial in self.trials)

    def propose(self) -> Assignment | None:
        """Returns a configuration to try: first those that a broken sweep left behind. None: there is nothing left.

        Raises:
            StudyError: The storage cannot be used, or nothing valid is found in the space.
        """
        with storage_errors(self.url):
            trials = self.trials
            for trial in trials:
                if trial.state == TrialState.RUNNING and trial.number not in self._assigned:
                    return self._taken_up(trial)
            if len(trials) >= self.num_trials:
                return None
            return self._drawn()

    def report(self, number: int, values: Mapping[int, float]) -> None:
        """Takes a trial's values of the objective by epoch. Of several objectives Optuna keeps the last only."""
        if self.request.sweep.has_several_objectives:
            return
        with storage_errors(self.url):
            for epoch, value in values.items():
                if (number, epoch) not in self._reported:
                    self._reported.add((number, epoch))
                    self._assigned[number].report(value, epoch)

    def tell(self, number: int, outcome: Outcome) -> None:
        """Ends a trial. A value counts only if the trial is complete."""
        trial = self._assigned.pop(number)
        with storage_errors(self.url):
            trial.set_user_attr(_OUTCOME, json.loads(json.dumps(asdict(outcome))))
            if outcome.kind == "complete":
                self._study.tell(trial, [outcome.metrics[name] for name in self.request.sweep.objectives])
            else:
                self._study.tell(trial, state=TrialState.PRUNED if outcome.kind == "pruned" else TrialState.FAIL)
        if outcome.kind in ("failed", "lost"):
            self._known = {key: known for key, known in self._known.items() if known != number}

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _taken_up(self, trial: FrozenTrial) -> Assignment:
        self._assigned[trial.number] = Trial(self._study, trial._trial_id)
        self._reported |= {(trial.number, epoch) for epoch in trial.intermediate_values}
        return assignment_of(trial)

    def _drawn(self) -> Assignment | None:
        reason = ""
        for attempt in range(_MOST_REFUSALS):
            trial = self._ask(follows=attempt < _INSISTENCE)
            try:
                settings, config = self._suggested(trial, follows=attempt < _INSISTENCE)
            except IsogradError as error:
                reason = f"trial {trial.number}: {error.what}"
                self._refuse(trial, error.what)
                continue
            found = fingerprint(config)
            if found in self._known:
                self._refuse(trial, f"the same as trial {self._known[found]}")
                continue
            self._known[found] = trial.number
            self._assigned[trial.number] = trial
            record = {"settings": settings, "config": to_dict(config), "fingerprint": found}
            trial.set_user_attr(_ASSIGNED, json.loads(json.dumps(record)))
            return Assignment(trial.number, config, settings)
        return self._exhausted(reason)

    def _ask(self, *, follows: bool) -> Trial:
        with self._sampling(follows=follows):
            return self._study.ask()

    def _suggested(self, trial: Trial, *, follows: bool) -> tuple[Settings, RunConfig]:
        """Draws a configuration, and checks it."""
        with self._sampling(follows=follows):
            settings = self.request.file.space.suggest(trial, self._ground)
        config = with_cuts(changed(self.request.base, settings))
        Blueprint(config).check()
        return settings, config

    @contextmanager
    def _sampling(self, *, follows: bool) -> Iterator[None]:
        """Draws as the sampler says, or, where that one insists on what is refused, at random."""
        sampler = self._study.sampler
        if not follows:
            self._study.sampler = RandomSampler()
        try:
            yield
        finally:
            self._study.sampler = sampler

    def _refuse(self, trial: Trial, reason: str) -> None:
        trial.set_user_attr(_REFUSED, reason)
        self._study.tell(trial, state=TrialState.FAIL)

    def _exhausted(self, reason: str) -> None:
        """Where all that is drawn has been tried, the search is over; where it cannot be trained, that is an error."""
        if not reason and self._known:
            return
        raise StudyError(
            f"{_MOST_REFUSALS} configurations in a row were refused; the last one, {reason or 'tried before'}",
            "A trial needs a configuration that can be trained and was not tried before",
            "Use conditions or bounds in the space that leave such configurations out.",
        )


def assignment_of(trial: FrozenTrial) -> Assignment:
    """Returns what a trial was given."""
    record = trial.user_attrs[_ASSIGNED]
    return Assignment(trial.number, from_dict(record["config"]), record["settings"])


def outcome_of(trial: FrozenTrial) -> Outcome | None:
    """Returns what came of a trial, or None while it is under way."""
    record = trial.user_attrs.get(_OUTCOME)
    return None if record is None else Outcome(**record)


def create_study(request: Request) -> Study:
    """Begins a study.

    Raises:
        StudyError: There is one of that name, or the storage cannot be used.
    """
    url = request.sweep.storage or default_url(request.folder)
    storage = open_storage(url, new=True)
    directions = [StudyDirection.MINIMIZE] * len(request.sweep.objectives)
    with storage_errors(url):
        try:
            made = optuna.create_study(
                storage=storage, study_name=request.name, directions=directions, sampler=_sampler(request, 0)
            )
        except DuplicatedStudyError:
            found = optuna.load_study(storage=storage, study_name=request.name)
            _check_identity(found, request, url)
            raise _exists(request, url) from None
        made.set_user_attr(_IDENTITY, request.identity())
        made.set_user_attr(_NUM_TRIALS, request.sweep.num_trials)
        if request.sweep.start_from_defaults:
            made.enqueue_trial(request.file.space.start(ground_of(request.base)))
    keep(request)
    return Study(request, url, made)


def open_study(request: Request) -> Study:
    """Opens a study that was begun before.

    Raises:
        StudyError: It is not there, is one of another space, or the storage cannot be used.
    """
    url = request.sweep.storage or default_url(request.folder)
    storage = open_storage(url, new=False)
    with storage_errors(url):
        names = [summary.study_name for summary in optuna.get_all_study_summaries(storage)]
        if request.name not in names:
            raise StudyError(
                f"the storage {url} has no study '{request.name}'.{suggestion(request.name, names)}",
                f"It has {', '.join(names) or 'none'}",
                "Use the storage that the study was begun with, or begin another one with `isograd tune`.",
            )
        found = optuna.load_study(storage=storage, study_name=request.name)
        _check_identity(found, request, url)
        trials = found.get_trials(deepcopy=False)
        found.sampler = _sampler(request, len(trials))
        for trial in trials:  # drawn when the sweep broke off, and given to nobody
            if trial.state == TrialState.RUNNING and _ASSIGNED not in trial.user_attrs:
                found.tell(trial.number, state=TrialState.FAIL)
    return Study(request, url, found)


def _sampler(request: Request, num_trials: int) -> BaseSampler:
    """One that does not draw again what it drew before a break."""
    return make_sampler(request.sweep, derive(request.sweep.sampler_seed, "sampler", num_trials) % 2**32)


def _check_identity(found: optuna.Study, request: Request, url: str) -> None:
    theirs, ours = found.user_attrs.get(_IDENTITY, {}), request.identity()
    differing = sorted(set(_different("", theirs, ours)))
    if differing:
        raise StudyError(
            f"study '{request.name}' in {url} is one of another space: it differs in {', '.join(differing[:6])}"
            + (f" and {len(differing) - 6} more" if len(differing) > 6 else ""),
            "Values of trials are only compared within one space, one training and the same seeds",
            "Use another tune.name, or the space and options that it was begun with.",
        )


def _different(path: str, first: Any, second: Any) -> list[str]:
    if isinstance(first, dict) and isinstance(second, dict):
        keys = [*first, *(key for key in second if key not in first)]
        return [name for key in keys for name in _different(f"{path}.{key}", first.get(key), second.get(key))]
    return [] if first == second else [path.strip(".")]


def _exists(request: Request, url: str) -> StudyError:
    return StudyError(
        f"study '{request.name}' is in {url} already",
        "Two sweeps would mix their trials",
        f"Use `isograd resume {request.folder}` to go on with it, or another tune.name.",
    )
