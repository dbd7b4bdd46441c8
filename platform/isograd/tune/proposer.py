"""Draws configurations that can be trained and were not tried before; everything in memory.

The storage of a study keeps what was assigned and what came of it; the sampler asks a copy here, which also has what
was drawn and refused. So the storage stays free of that, and writes a trial once instead of once a parameter.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig, fingerprint
from isograd.errors import IsogradError, StudyError
from isograd.executors.executor import check
from isograd.planning.choose import with_cuts
from isograd.seeding import derive
from isograd.tune.distributions import Settings
from isograd.tune.ground import changed, ground_of
from isograd.tune.request import Request
from isograd.tune.samplers import make_sampler
from isograd.tune.storage import quiet_optuna
from isograd.tune.untried import UntriedSampler

Admit = Callable[[Blueprint], None]

_MOST_REFUSALS, _INSISTENCE = 100, 5


def anything(blueprint: Blueprint) -> None:
    """Admits whatever can be trained."""


@dataclass(frozen=True)
class Drawn:
    """Attributes:
    trial: Its coordinates, as Optuna keeps them.
    settings: The options that they lead to.
    config: Of its runs.
    fingerprint: Of the configuration.
    """

    trial: FrozenTrial
    settings: Settings
    config: RunConfig
    fingerprint: str


class Proposer:
    """Draws, and learns from what comes of it.

    Args:
        request: What is searched.
        earlier: Trials of the study so far.
        tried: Fingerprint -> trial, of their configurations.
    """

    def __init__(self, request: Request, earlier: Sequence[FrozenTrial], tried: Mapping[str, int]) -> None:
        quiet_optuna()
        self._request, self._ground = request, ground_of(request.base)
        self._tried = dict(tried)
        self._trials: dict[int, Trial] = {}
        self._checked: Blueprint | None = None
        # Another one after a break: it does not draw again what it drew before.
        seed = derive(request.sweep.sampler_seed, "sampler", len(earlier)) % 2**32
        directions = [StudyDirection.MINIMIZE] * len(request.sweep.objectives)
        sampler = make_sampler(request.sweep, seed, request.file.space, self._ground)
        self._elsewhere = UntriedSampler(request.file.space, self._ground, seed)
        self._study = optuna.create_study(directions=directions, sampler=sampler)
        for trial in earlier:
            self._study.add_trial(trial)
            self._trials[trial.number] = Trial(self._study, self._study.get_trials(deepcopy=False)[-1]._trial_id)
        if not earlier and request.sweep.start_from_defaults:
            self._study.enqueue_trial(request.file.space.start(self._ground))

    def draw(self, number: int, admit: Admit = anything) -> Drawn | None:
        """Draws a configuration; None: all that can be drawn has been tried.

        Args:
            number: Of the trial that it is for.
            admit: Raises IsogradError for what is not to be proposed, though it could be trained.

        Raises:
            StudyError: Nothing that is drawn can be trained.
        """
        reason = ""
        for attempt in range(_MOST_REFUSALS):
            with self._sampling(follows=attempt < _INSISTENCE):
                trial = self._study.ask()
                try:
                    settings, config = self._suggested(trial, admit)
                except IsogradError as error:
                    reason = error.what
                    self._study.tell(trial, state=TrialState.FAIL)
                    continue
            found = fingerprint(config)
            if found in self._tried:
                self._study.tell(trial, state=TrialState.FAIL)
                continue
            self._tried[found], self._trials[number] = number, trial
            return Drawn(self._study.get_trials(deepcopy=False)[trial.number], settings, config, found)
        if self._tried and not reason:
            return None
        raise StudyError(
            f"{_MOST_REFUSALS} configurations in a row were refused; the last one, {reason or 'tried before'}",
            "A trial needs a configuration that can be trained and was not tried before",
            "Use conditions or bounds in the space that leave such configurations out.",
        )

    def report(self, number: int, epoch: int, value: float) -> None:
        """Takes an intermediate value of a trial."""
        self._trials[number].report(value, epoch)

    def tell(self, number: int, state: TrialState, values: Sequence[float] | None, *, again: bool = False) -> None:
        """Takes the end of a trial; ``again``: its configuration may be tried once more."""
        self._study.tell(self._trials[number], values, state=state)
        if again:
            self._tried = {found: trial for found, trial in self._tried.items() if trial != number}

    def _suggested(self, trial: Trial, admit: Admit) -> tuple[Settings, RunConfig]:
        """Returns what a trial's draws lead to. Raises IsogradError for what cannot be trained."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            settings = self._request.file.space.suggest(trial, self._ground)
        config = with_cuts(changed(self._request.base, settings))
        self._checked = Blueprint(config).sharing(self._checked)
        check(self._checked)
        admit(self._checked)
        return settings, config

    @contextmanager
    def _sampling(self, *, follows: bool) -> Iterator[None]:
        """Draws as the sampler says, or, where that one insists on what is refused, what was not drawn yet."""
        sampler = self._study.sampler
        if not follows:
            self._study.sampler = self._elsewhere
        try:
            yield
        finally:
            self._study.sampler = sampler
