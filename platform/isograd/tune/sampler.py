"""Samplers, by the names that a sweep has for them: Optuna's, and two that know the space.

Ours draw whole configurations through the space itself, and none that was tried: Optuna's see coordinates one by one,
so they cannot know that two drawings lead to the same cuts, nor where cuts lie.
"""

import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from types import MappingProxyType
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from isograd.errors import IsogradError
from isograd.tune.request import Request
from isograd.tune.space import Features, Ground, SearchSpace
from isograd.tune.surrogate import Surrogate

_ROUNDING = 1e-9
_STEP = 0.1  # of a range, on average, between a drawing and one near it
_CHANGES = 0.25  # share of the choices that differ between these
_MOST_DRAWS = 5000  # until all of a space counts as tried
_NUM_CENTRES, _NUM_NEAR = 3, 8  # candidates a proposal, near each of the best trials
_NUM_FIRST, _NUM_MORE, _MOST_DISTANT = 200, 12, 256  # candidates from all of the space: at first, a proposal, kept


def make_sampler(request: Request, seed: int, ground: Ground) -> BaseSampler:
    """Returns the sampler of a sweep; of several objectives TPE is the multi-objective one."""
    config, space = request.sweep, request.file.space
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if config.sampler_name == "random":
            return UntriedSampler(space, ground, seed)
        if config.sampler_name == "nsga2":
            return NSGAIISampler(seed=seed, population_size=max(config.num_startup, 2))
        if config.sampler_name == "gp":
            (objective,) = request.objectives.values()
            return SpaceSampler(space, ground, seed, config.num_startup, objective.cost)
        # Together, since cuts and decay depend on each other; in groups, since conditions leave parameters out; and
        # trials under way count as bad, so that workers side by side do not try the same.
        return TPESampler(
            seed=seed, n_startup_trials=config.num_startup, multivariate=True, group=True, constant_liar=True
        )


class RandomTrial(FixedTrial):
    """A trial of no study, drawn by chance: a thousand of them cost less than one proposal.

    Args:
        random: Where chance comes from.
        near: Coordinates of another trial: numbers are drawn a little beside its own, and most choices are the same;
            what it does not have is drawn from all of its range.
    """

    def __init__(self, random: Random, near: Mapping[str, Any] = MappingProxyType({})) -> None:
        super().__init__({})
        self._random, self._near = random, near

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        near = self._near.get(name)
        if isinstance(distribution, CategoricalDistribution):
            is_new = near is None or self._random.random() < _CHANGES
            self._params[name] = self._random.choice(distribution.choices) if is_new else near
        else:
            assert isinstance(distribution, FloatDistribution | IntDistribution)
            self._params[name] = self._draw_number(distribution, near)
        return super()._suggest(name, distribution)

    def _draw_number(self, distribution: FloatDistribution | IntDistribution, near: float | None) -> float:
        low, high, step, log = distribution.low, distribution.high, distribution.step, distribution.log
        share = self._random.random() if near is None else self._draw_share(_share_of(near, low, high, log))
        if step is not None and not log:
            count = int((high - low) / step + _ROUNDING)
            return min(low + step * min(int(share * (count + 1)), count), high)
        if isinstance(distribution, IntDistribution):
            return min(max(round(_scale(share, low - 0.5, high + 0.5, log)), low), high)
        return min(max(_scale(share, low, high, log), low), high)

    def _draw_share(self, centre: float) -> float:
        return min(max(self._random.gauss(centre, _STEP), 0.0), math.nextafter(1.0, 0.0))


def _scale(share: float, low: float, high: float, log: bool) -> float:
    if log:
        return math.exp(_scale(share, math.log(low), math.log(high), False))
    return low + share * (high - low)


def _share_of(value: float, low: float, high: float, log: bool) -> float:
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low) if high > low else 0.5


@dataclass(frozen=True)
class Candidate:
    """Attributes:
    key: What it sets, as text.
    features: Where it lies.
    trial: Its coordinates, and what they were drawn from.
    """

    key: str
    features: Features
    trial: FixedTrial


class UntriedSampler(BaseSampler):
    """Random search that proposes nothing twice; where it finds nothing new, coordinates at random."""

    def __init__(self, space: SearchSpace, ground: Ground, seed: int) -> None:
        self._space, self._ground = space, ground
        self._random, self._by_chance = Random(seed), RandomSampler(seed=seed)
        self._known: dict[int, Candidate | None] = {}  # trial -> where it lies; None: its drawing was broken off
        self._is_exhausted = False

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Chooses a candidate; returns what its coordinates were drawn from. Empty: they are drawn at random."""
        earlier = [other for other in study.get_trials(deepcopy=False) if other.number < trial.number]
        self._choice = self.choose(earlier)
        return {} if self._choice is None else self._choice.trial.distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Returns the coordinates of the candidate."""
        return {} if self._choice is None else self._choice.trial.params

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Returns a coordinate at random."""
        return self._by_chance.sample_independent(study, trial, param_name, param_distribution)

    def choose(self, trials: Sequence[FrozenTrial]) -> Candidate | None:
        """Returns what is tried next, after these trials; None: nothing that is new was found."""
        if self._is_exhausted:
            return None
        tried = self.collect_tried(trials)
        new = next((candidate for candidate in self.draw(_MOST_DRAWS) if candidate.key not in tried), None)
        self._is_exhausted = new is None
        return new

    def collect_tried(self, trials: Sequence[FrozenTrial]) -> set[str]:
        """Returns the keys of what was tried, and of what was drawn and refused."""
        return {place.key for trial in trials if (place := self.locate(trial))}

    def draw(self, count: int, near: Mapping[str, Any] = MappingProxyType({})) -> Iterator[Candidate]:
        """Yields candidates from all of the space, or near a trial: of so many drawings, those that lead to one."""
        for _ in range(count):
            if candidate := self._follow(RandomTrial(self._random, near)):
                yield candidate

    def locate(self, trial: FrozenTrial) -> Candidate | None:
        """Returns where a trial lies, known from then on; None: its drawing led to nothing that exists."""
        if trial.number not in self._known:
            self._known[trial.number] = self._follow(FixedTrial(trial.params))
        return self._known[trial.number]

    def _follow(self, trial: FixedTrial) -> Candidate | None:
        """Returns where a drawing leads to; None: to nothing that exists, or it was broken off on its way."""
        try:
            settings, features = self._space.describe(trial, self._ground)
        except (IsogradError, ValueError):  # Optuna's: the trial lacks a coordinate
            return None
        return Candidate(json.dumps(settings, sort_keys=True), features, trial)


class SpaceSampler(UntriedSampler):
    """Proposes the candidate of which most improvement is expected, of one objective.

    It sees where the cuts lie and what a condition leaves out, and chooses among candidates by a Gaussian process,
    once ``num_startup`` trials were drawn at random. ``cost`` makes of a value a number of which less is better.
    """

    def __init__(
        self, space: SearchSpace, ground: Ground, seed: int, num_startup: int, cost: Callable[[float], float] = float
    ) -> None:
        super().__init__(space, ground, seed)
        self._num_startup, self._cost, self._surrogate = num_startup, cost, Surrogate()
        self._distant: dict[str, Candidate] = {}

    def choose(self, trials: Sequence[FrozenTrial]) -> Candidate | None:
        """Returns what is tried next, after these trials; None: nothing that is new was found."""
        candidates = self._draw_candidates(trials)
        if not candidates:
            return super().choose(trials)
        known = [(trial, place) for trial in trials if trial.state != TrialState.FAIL and (place := self.locate(trial))]
        values = estimate_values([trial for trial, _ in known])
        if len(known) < self._num_startup or all(value is None for value in values):
            return candidates[-1]
        costs = [None if value is None else self._cost(value) for value in values]
        places = [candidate.features for candidate in candidates]
        expected = self._surrogate.expected_improvement([place.features for _, place in known], costs, places)
        return candidates[int(expected.argmax())]

    def _draw_candidates(self, trials: Sequence[FrozenTrial]) -> list[Candidate]:
        """Returns what was not tried, near the best trials and from all of the space."""
        tried = self.collect_tried(trials)
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        complete.sort(key=lambda trial: self._cost(trial.values[0]))
        near = [place for trial in complete[:_NUM_CENTRES] for place in self.draw(_NUM_NEAR, trial.params)]
        distant = [*self._distant.values(), *self.draw(_NUM_MORE if self._distant else _NUM_FIRST)]
        self._distant = {place.key: place for place in distant[-_MOST_DISTANT:] if place.key not in tried}
        return list(({place.key: place for place in near if place.key not in tried} | self._distant).values())


def estimate_values(trials: Sequence[FrozenTrial]) -> list[float | None]:
    """Returns what each trial comes to; None: it is under way.

    Of one that was stopped early: what it had come to, times what trials that went on from there made of it on average.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return [_estimate(trial, complete) for trial in trials]


def _estimate(trial: FrozenTrial, complete: Sequence[FrozenTrial]) -> float | None:
    if trial.state == TrialState.COMPLETE:
        return trial.values[0]
    epoch = trial.last_step
    if trial.state != TrialState.PRUNED or epoch is None:
        return None
    further = [other for other in complete if other.intermediate_values.get(epoch)]
    ratio = fmean(other.values[0] / other.intermediate_values[epoch] for other in further) if further else 1.0
    return trial.intermediate_values[epoch] * ratio
