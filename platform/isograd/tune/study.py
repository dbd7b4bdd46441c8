"""A study: which configurations have been tried and what came of them, in Optuna's storage.

The storage alone says what is left to do. So a sweep that was broken off goes on from it, and one that has finished is
extended with all that its searcher knew. Everything here runs in the driver and needs no Ray.
"""

import json
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from isograd.data.identity import Identity
from isograd.engine.config import to_dict
from isograd.errors import IsogradError, StudyError
from isograd.registry import suggestion
from isograd.system.passwords import hide_password
from isograd.tune.ground import change_config
from isograd.tune.judge import Best, direction_of
from isograd.tune.proposer import Admit, Proposer, admit_all
from isograd.tune.request import Request, is_study, read_request, write_request
from isograd.tune.results import ASSIGNED, OUTCOME, Assignment, Outcome, assignment_of, outcome_of
from isograd.tune.storage import (
    check_place,
    check_writable,
    default_url,
    explain_errors,
    may_exist,
    open_storage,
    places_of,
)

_IDENTITY, _NUM_TRIALS = "isograd", "num_trials"  # of a study: what all its trials share, and how many there are to be
_MOST_NAMED = 6  # of what differs
_STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "lost": TrialState.FAIL,
}


class Study:
    """Proposes configurations, and takes what comes of them.

    What it has to know is read once; from then on it only writes, since a study has one driver at a time.
    :func:`create_study` and :func:`open_study` bring its storage.

    Attributes:
        admit: Raises IsogradError for what is not to be proposed, though it could be trained: what the cluster can
            never hold, once there is one.
        is_exhausted: Whether all that the space has was tried before there were ``num_trials``.
        num_trials: How many configurations it is to try.
    """

    def __init__(self, request: Request, url: str, storage: BaseStorage) -> None:
        self.request, self.url, self._storage = request, url, storage
        self.admit: Admit = admit_all
        with explain_errors(url):
            self._id = storage.get_study_id_from_name(request.name)
            self.num_trials: int = storage.get_study_user_attrs(self._id)[_NUM_TRIALS]
        self.is_exhausted = False
        trials = self.trials
        self._num_drawn = len(trials)
        self._left_behind = [trial for trial in trials if trial.state == TrialState.RUNNING]
        self._assigned: dict[int, int] = {}  # number -> identifier in the storage
        self._reported: set[tuple[int, int]] = set()
        tried = {
            trial.user_attrs[ASSIGNED]["fingerprint"]: trial.number
            for trial in trials
            if (outcome := outcome_of(trial)) is None or outcome.kind != "lost"
        }
        self._proposer = Proposer(request, trials, tried)

    @property
    def data(self) -> Mapping[str, str | int]:
        """What all trials train on, an :class:`Identity` as JSON."""
        with explain_errors(self.url):
            return self._storage.get_study_user_attrs(self._id)[_IDENTITY]["data"]

    def extend(self, num_trials: int) -> None:
        """Lets it try so many more."""
        self.num_trials += num_trials
        with explain_errors(self.url):
            self._storage.set_study_user_attr(self._id, _NUM_TRIALS, self.num_trials)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All of them, in order, as the storage has them."""
        with explain_errors(self.url):
            return self._storage.get_all_trials(self._id, deepcopy=False)

    @property
    def num_left(self) -> int:
        """Trials that have no outcome yet, those not proposed yet included."""
        return self.num_trials - sum(OUTCOME in trial.user_attrs for trial in self.trials)

    def find_best(self) -> Best:
        """Returns the best of the complete trials."""
        best = Best(self.request.objectives)
        for trial in self.trials:
            outcome = outcome_of(trial)
            if outcome is not None and outcome.kind == "complete":
                best.take(trial.number, outcome.metrics)
        return best

    def propose(self) -> Assignment | None:
        """Returns a configuration to try: first those that a broken sweep left behind. None: there is nothing left.

        Raises:
            StudyError: The storage cannot be used, or nothing valid is found in the space.
        """
        if self._left_behind:
            return self._take_up(self._left_behind.pop(0))
        if self._num_drawn >= self.num_trials:
            return None
        return self._draw(self._num_drawn)

    def report(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Takes what a trial that goes on has come to. Of several objectives Optuna keeps the last values only."""
        if self.request.sweep.has_several_objectives or (number, epoch) in self._reported:
            return
        self._reported.add((number, epoch))
        value = metrics[self.request.sweep.objectives[0]]
        with explain_errors(self.url):
            self._storage.set_trial_intermediate_value(self._assigned[number], epoch, value)
        self._proposer.report(number, epoch, value)

    def tell(self, number: int, outcome: Outcome) -> None:
        """Ends a trial. A value counts only if the trial is complete."""
        identifier, state = self._assigned.pop(number), _STATES[outcome.kind]
        is_complete = state == TrialState.COMPLETE
        values = [outcome.metrics[name] for name in self.request.sweep.objectives] if is_complete else None
        with explain_errors(self.url):
            self._storage.set_trial_user_attr(identifier, OUTCOME, json.loads(json.dumps(asdict(outcome))))
            self._storage.set_trial_state_values(identifier, state, values)
        self._proposer.tell(number, state, values, again=outcome.kind == "lost")

    def _take_up(self, trial: FrozenTrial) -> Assignment:
        """Returns what a broken sweep had assigned, executed as this one, with the data where it is now."""
        self._assigned[trial.number] = trial._trial_id
        self._reported |= {(trial.number, epoch) for epoch in trial.intermediate_values}
        assignment, base = assignment_of(trial), self.request.base
        config = replace(assignment.config, executor=base.executor, cluster=base.cluster, checkpoint=base.checkpoint)
        if config.data.name == base.data.name and "data.path" not in assignment.settings:
            config = replace(config, data=config.data.at(base.data.path))
        own = {name: value for name, value in assignment.settings.items() if name.partition(".")[0] == "executor"}
        return replace(assignment, config=change_config(config, own))

    def _draw(self, number: int) -> Assignment | None:
        proposal = self._proposer.draw(number, self.admit)
        if proposal is None:
            self.is_exhausted = True
            return None
        record = {
            "settings": proposal.settings,
            "config": to_dict(proposal.config),
            "fingerprint": proposal.fingerprint,
        }
        template = create_trial(
            state=TrialState.RUNNING,
            params=proposal.trial.params,
            distributions=proposal.trial.distributions,
            user_attrs={ASSIGNED: json.loads(json.dumps(record))},
        )
        template.datetime_start = datetime.now()
        with explain_errors(self.url):
            self._assigned[number] = self._storage.create_new_trial(self._id, template)
        self._num_drawn += 1
        return Assignment(number, proposal.config, proposal.settings)


def check_free(request: Request) -> None:
    """Checks that a study can be begun, as far as that is known before anything is made.

    Raises:
        StudyError: There is one of that name, or the storage cannot be used.
    """
    url, is_taken = _url_of(request), is_study(request.folder) or request.trial_folder(0).exists()
    if may_exist(url):
        storage = open_storage(url, new=False)
        with explain_errors(url):
            if request.name in optuna.get_all_study_names(storage):
                _check_identity(optuna.load_study(storage=storage, study_name=request.name), request, url)
                raise _exists(request, url)
    if is_taken:
        goes_on = is_study(request.folder) and may_exist(_url_of(read_request(request.folder)))
        resuming = f"`isograd resume {request.folder}` to go on with it, " if goes_on else ""
        raise StudyError(
            f"{request.folder} is the folder of a study that is not in {hide_password(url)}",
            "Its trials would be taken for those of the new study",
            f"Use {resuming}another tune.name, or delete that folder.",
        )
    check_place(url, request.folder)


def create_study(request: Request) -> Study:
    """Begins a study, wholly or not at all.

    Raises:
        StudyError: There is one of that name, or the storage cannot be used.
    """
    check_free(request)
    url, identity = _url_of(request), request.identity()
    made = [path for path in (request.folder, *places_of(url)) if not path.exists()]
    try:
        request.folder.mkdir(parents=True, exist_ok=True)
        return _create(request, url, identity)
    except BaseException:
        for path in made:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.parent == request.folder or not _is_used(url):
                path.unlink(missing_ok=True)
        raise


def _create(request: Request, url: str, identity: Mapping[str, Any]) -> Study:
    storage = open_storage(url, new=True)
    directions = [direction_of(measure) for measure in request.objectives.values()]
    with explain_errors(url):
        try:
            begun = optuna.create_study(storage=storage, study_name=request.name, directions=directions)
        except DuplicatedStudyError:  # by another process, since that was checked
            raise _exists(request, url) from None
        try:
            begun.set_user_attr(_IDENTITY, identity)
            begun.set_user_attr(_NUM_TRIALS, request.sweep.num_trials)
            write_request(request)
        except BaseException:
            with suppress(Exception):  # what failed may fail again
                optuna.delete_study(study_name=request.name, storage=storage)
            raise
    return Study(request, url, storage)


def _is_used(url: str) -> bool:
    """Whether another process has begun a study in a storage, or may have."""
    try:
        return bool(optuna.get_all_study_names(open_storage(url, new=False)))
    except IsogradError:
        return True


def _url_of(request: Request) -> str:
    return request.sweep.storage or default_url(request.folder)


def check_goes_on(request: Request) -> None:
    """Checks that a study may be written, where that is known from its files, before it is opened to go on with it.

    Raises:
        StudyError: It may only be read.
    """
    folder = shlex.quote(str(request.folder))
    copying = f"Use a copy: `cp -r --no-preserve=mode {folder} COPY`, and `isograd resume COPY`."
    has_all = request.sweep.storage is None  # in its folder; a storage elsewhere would be that of the copy, too
    check_writable((request.folder, *places_of(_url_of(request))), copying if has_all else None)


def open_study(request: Request) -> Study:
    """Opens a study that was begun before.

    Raises:
        StudyError: It is not there, is one of another space, or the storage cannot be used.
    """
    url = _url_of(request)
    storage = open_storage(url, new=False)
    with explain_errors(url):
        names = optuna.get_all_study_names(storage)
        if request.name not in names:
            raise StudyError(
                f"the storage {hide_password(url)} has no study '{request.name}'.{suggestion(request.name, names)}",
                f"It has {', '.join(names) or 'none'}",
                "Use the storage that the study was begun with, or begin another one with `isograd tune`.",
            )
        _check_identity(optuna.load_study(storage=storage, study_name=request.name), request, url)
    return Study(request, url, storage)


def _exists(request: Request, url: str) -> StudyError:
    resuming = f"`isograd resume {request.folder}` to go on with it, or " if is_study(request.folder) else ""
    return StudyError(
        f"study '{request.name}' is in {hide_password(url)} already",
        "Two sweeps would mix their trials",
        f"Use {resuming}another tune.name.",
    )


def _check_identity(study: optuna.Study, request: Request, url: str) -> None:
    """Raises StudyError where a study is about another space, training, seeds or data than what is asked for."""
    which = f"study '{request.name}' in {hide_password(url)}"
    theirs, ours = study.user_attrs.get(_IDENTITY), request.identity()
    if theirs is None:
        raise StudyError(
            f"{which} does not say what it is about",
            "Another program began it, or its storage is damaged",
            "Use another tune.name, or a copy of the storage.",
        )
    before, data = theirs.pop("data"), ours.pop("data")
    if before != data:
        raise StudyError(
            f"the data is not what {which} began with: {Identity.from_json(before)}, then; {Identity.from_json(data)}, "
            "now",
            "Values of trials on other rows cannot be compared",
            "Use data.path=FOLDER with the data that it began with, or begin another study with another tune.name.",
        )
    if differing := sorted(set(_differences("", theirs, ours))):
        more = len(differing) - _MOST_NAMED
        raise StudyError(
            f"{which} is one of another space: it differs in {', '.join(differing[:_MOST_NAMED])}"
            + (f" and {more} more" if more > 0 else ""),
            "Values of trials are only compared within one space, one training and the same seeds",
            "Use another tune.name, or the space and options that it was begun with.",
        )


def _differences(path: str, first: Any, second: Any) -> Iterator[str]:
    """Yields the dotted names of what differs."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in first | second:
            yield from _differences(f"{path}.{key}", first.get(key), second.get(key))
    elif first != second:
        yield path.strip(".")
