"""Draws configurations that can be trained and were not tried before; everything in memory.

The storage of a study keeps what was assigned and what came of it; the sampler asks a copy here, which also has what
was drawn and refused. So the storage stays free of that, and writes a trial once instead of once a parameter.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig, fingerprint
from isograd.errors import IsogradError, SpaceError, StudyError
from isograd.executors.executor import check
from isograd.planning.choose import with_cuts
from isograd.run.experiment import prepare
from isograd.seeding import derive
from isograd.tune.ground import change_config, make_ground
from isograd.tune.judge import direction_of
from isograd.tune.request import Request
from isograd.tune.sampler import UntriedSampler, make_sampler
from isograd.tune.space import NUM_MODULES, Categorical, Number, Settings
from isograd.tune.storage import quiet_optuna

Admit = Callable[[Blueprint], None]

_MOST_REFUSALS, _INSISTENCE = 100, 5
_NUM_DRAWS, _NUM_DRAWS_OF_LABEL = 20, 8


def admit_all(blueprint: Blueprint) -> None:
    """Admits whatever can be trained."""


@dataclass(frozen=True)
class Proposal:
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


class _Drawer:
    """From a trial's coordinates to a configuration that can be trained; what two have in common is built once."""

    def __init__(self, request: Request) -> None:
        quiet_optuna()
        self.request, self.ground = request, make_ground(request.base)
        self._checked: Blueprint | None = None

    def draw(self, trial: Trial, admit: Admit = admit_all) -> tuple[Settings, RunConfig]:
        """Raises IsogradError for what cannot be trained, or is not admitted."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            settings = self.request.file.space.suggest(trial, self.ground)
        config = with_cuts(change_config(self.request.base, settings))
        self._checked = Blueprint(config).sharing(self._checked)
        check(self._checked)
        admit(self._checked)
        return settings, config


class Proposer:
    """Draws, and learns from what comes of it.

    Args:
        request: What is searched.
        earlier: Trials of the study so far.
        tried: Fingerprint -> trial, of their configurations.
    """

    def __init__(self, request: Request, earlier: Sequence[FrozenTrial], tried: Mapping[str, int]) -> None:
        self._drawer, self._tried = _Drawer(request), dict(tried)
        self._trials: dict[int, Trial] = {}
        # Another one after a break: it does not draw again what it drew before.
        seed = derive(request.sweep.sampler_seed, "sampler", len(earlier)) % 2**32
        space, ground = request.file.space, self._drawer.ground
        self._sampler = make_sampler(request, seed, ground)
        self._elsewhere = UntriedSampler(space, ground, seed)
        directions = [direction_of(measure) for measure in request.objectives.values()]
        self._study = optuna.create_study(directions=directions, sampler=self._sampler)
        for trial in earlier:
            self._study.add_trial(trial)
            self._trials[trial.number] = Trial(self._study, self._study.get_trials(deepcopy=False)[-1]._trial_id)
        if not earlier and request.sweep.start_from_defaults:
            self._study.enqueue_trial(space.start(ground))

    def draw(self, number: int, admit: Admit = admit_all) -> Proposal | None:
        """Draws a configuration; None: all that can be drawn has been tried.

        Args:
            number: Of the trial that it is for.
            admit: Raises IsogradError for what is not to be proposed, though it could be trained.

        Raises:
            StudyError: Nothing that is drawn can be trained and is admitted.
        """
        reason = ""
        for attempt in range(_MOST_REFUSALS):
            # Where the sampler insists on what is refused, what was not drawn yet.
            self._study.sampler = self._sampler if attempt < _INSISTENCE else self._elsewhere
            trial = self._study.ask()
            try:
                settings, config = self._drawer.draw(trial, admit)
            except IsogradError as error:
                reason = error.what
                self._study.tell(trial, state=TrialState.FAIL)
                continue
            key = fingerprint(config)
            if key in self._tried:
                self._study.tell(trial, state=TrialState.FAIL)
                continue
            self._tried[key], self._trials[number] = number, trial
            return Proposal(self._study.get_trials(deepcopy=False)[trial.number], settings, config, key)
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
            self._tried = {tried: trial for tried, trial in self._tried.items() if trial != number}


def check_request(request: Request) -> None:
    """Draws configurations until one can be trained, and prepares its run as a trial would, data included.

    Raises:
        SpaceError: A parameter sets an option that the runs do not have, or asks for more local modules than units.
        IsogradError: None of the configurations drawn can be trained, or the data cannot be read.
    """
    drawer = _Drawer(request)
    _check_num_modules(drawer)
    prepare(replace(_find_trainable(drawer), folder=str(request.folder)))
    for parameter in request.file.space.parameters:
        if isinstance(parameter.distribution, Categorical) and len(parameter.distribution.values) > 1:
            for label in parameter.distribution.values:
                _check_label(drawer, parameter.name, label)


def _draw_several(
    drawer: _Drawer, sampler: BaseSampler, count: int
) -> Iterator[tuple[Mapping[str, Any], RunConfig | IsogradError]]:
    """Yields coordinates, and the configuration that they lead to, or why it cannot be trained."""
    study = optuna.create_study(sampler=sampler)
    for _ in range(count):
        trial = study.ask()
        try:
            _, drawn = drawer.draw(trial)
        except IsogradError as error:
            drawn = error
        yield trial.params, drawn


def _find_trainable(drawer: _Drawer) -> RunConfig:
    """Returns the first of some configurations drawn that can be trained."""
    last: IsogradError | None = None
    for _, drawn in _draw_several(drawer, RandomSampler(seed=0), _NUM_DRAWS):
        if isinstance(drawn, RunConfig):
            return drawn
        _check_is_known(drawer.request, drawn)
        last = drawn
    assert last is not None
    raise SpaceError(
        f"none of {_NUM_DRAWS} configurations drawn from space {drawer.request.file.name} can be trained; of the last "
        f"one, {last.what}",
        last.why,
        last.mend,
    )


def _check_label(drawer: _Drawer, name: str, label: str) -> None:
    """Raises SpaceError for a value with which nothing can be trained, though other values can: a misspelt one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        sampler = PartialFixedSampler({name: label}, RandomSampler(seed=0))
    reason: IsogradError | None = None
    for coordinates, drawn in _draw_several(drawer, sampler, _NUM_DRAWS_OF_LABEL):
        if isinstance(drawn, RunConfig):
            return
        reason = drawn if name in coordinates else reason
    if reason is not None:
        place = drawer.request.file.place(name, "values")
        raise SpaceError(
            f"{place}: no configuration with {name}={label} can be trained: {reason.what}", reason.why, reason.mend
        )


def _check_num_modules(drawer: _Drawer) -> None:
    num_units, file = len(drawer.ground.unit_names_with({})), drawer.request.file
    for parameter in file.space.parameters:
        distribution = parameter.distribution
        if parameter.name == NUM_MODULES and isinstance(distribution, Number) and distribution.high > num_units:
            place = file.place(NUM_MODULES, "high")
            bounds = ("low", "high") if distribution.low > num_units else ("high",)
            mend = " ".join(f"space.{NUM_MODULES}.{bound}={num_units}" for bound in bounds)
            raise SpaceError(
                f"{place}: {NUM_MODULES} is up to {distribution.high:g}, but the backbone has {num_units} units",
                "Each local module needs at least one",
                f"Use {mend}, or a deeper backbone.",
            )


def _check_is_known(request: Request, error: IsogradError) -> None:
    """Raises, with its place, for a parameter whose option the runs do not have: it would fail in every trial."""
    parameters = request.file.space.parameters
    searched = {name for parameter in parameters for name in (parameter.name, *parameter.sets)}
    for parameter in parameters:
        is_always_there = searched.isdisjoint(parameter.when)
        if is_always_there and error.what.startswith(f"{parameter.name}=") and "no such option" in error.what:
            raise SpaceError(f"{request.file.place(parameter.name)}: {error.what}", error.why, error.mend) from error
