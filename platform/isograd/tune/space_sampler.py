"""A sampler that knows the space: it judges whole configurations, drawn by the space itself.

Optuna's samplers see coordinates one by one. This one sees where the cuts lie and what a condition leaves out, proposes
only what was not tried, and chooses among candidates by a Gaussian process.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from isograd.errors import IsogradError
from isograd.tune.distributions import Features, Settings
from isograd.tune.drawings import KnownDrawing, NearDrawing, RandomDrawing
from isograd.tune.space import Ground, SearchSpace
from isograd.tune.surrogate import Surrogate

_NUM_CENTRES, _NUM_NEAR = 3, 8  # candidates a proposal, near each of the best trials
_NUM_FIRST, _NUM_MORE, _MOST_DISTANT = 200, 25, 500  # candidates from all of the space: at first, a proposal, kept


@dataclass(frozen=True)
class Candidate:
    """Attributes:
    key: What it sets, as text.
    features: Where it lies.
    drawing: Its coordinates, and what they were drawn from; a trial, of one that was tried.
    """

    key: str
    features: Features
    drawing: RandomDrawing | FrozenTrial


class SpaceSampler(BaseSampler):
    """Proposes the candidate of which most improvement is expected, of one objective that is minimised.

    Args:
        space: What is searched.
        ground: What the space stands on.
        seed: Of the candidates.
        num_startup: Trials drawn at random before it follows what it has seen.
    """

    def __init__(self, space: SearchSpace, ground: Ground, seed: int, num_startup: int) -> None:
        self._space, self._ground, self._num_startup = space, ground, num_startup
        self._random, self._by_chance = Random(seed), RandomSampler(seed=seed)
        self._surrogate = Surrogate()
        self._distant: dict[str, Candidate] = {}
        self._known: dict[int, Candidate | None] = {}  # trial -> where it lies; None: its drawing was broken off

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Chooses a candidate; returns what its coordinates were drawn from. Empty: they are drawn at random."""
        self._chosen = self._choose(
            [other for other in study.get_trials(deepcopy=False) if other.number < trial.number]
        )
        return {} if self._chosen is None else self._chosen.drawing.distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Returns the coordinates of the candidate."""
        return {} if self._chosen is None else self._chosen.drawing.params

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Returns a coordinate at random."""
        return self._by_chance.sample_independent(study, trial, param_name, param_distribution)

    def _choose(self, trials: Sequence[FrozenTrial]) -> Candidate | None:
        candidates = self._untried(trials)
        if not candidates:
            return None
        known = [(trial, place) for trial in trials if trial.state != TrialState.FAIL and (place := self._place(trial))]
        values = estimates([trial for trial, _ in known])
        if len(known) < self._num_startup or all(value is None for value in values):
            return candidates[-1]
        places = [candidate.features for candidate in candidates]
        expected = self._surrogate.expected_improvement([place.features for _, place in known], values, places)
        return candidates[int(expected.argmax())]

    def _untried(self, trials: Sequence[FrozenTrial]) -> list[Candidate]:
        """Returns candidates near the best trials, and from all of the space."""
        tried = {place.key for trial in trials if (place := self._place(trial))}
        complete = sorted(
            (trial for trial in trials if trial.state == TrialState.COMPLETE), key=lambda trial: trial.values
        )
        centres = [trial.params for trial in complete[:_NUM_CENTRES] for _ in range(_NUM_NEAR)]
        near = [self._drawn(NearDrawing(self._random, params)) for params in centres]
        count = _NUM_MORE if self._distant else _NUM_FIRST
        distant = [*self._distant.values(), *(self._drawn(RandomDrawing(self._random)) for _ in range(count))]
        self._distant = {found.key: found for found in distant[-_MOST_DISTANT:] if found and found.key not in tried}
        return list(({found.key: found for found in near if found and found.key not in tried} | self._distant).values())

    def _drawn(self, drawing: RandomDrawing) -> Candidate | None:
        """Returns where a drawing leads to; None: to nothing that exists."""
        try:
            settings, features = self._space.describe(drawing, self._ground)
        except IsogradError:
            return None
        return Candidate(_key(settings), features, drawing)

    def _place(self, trial: FrozenTrial) -> Candidate | None:
        """Returns where a trial lies, known from then on."""
        if trial.number not in self._known:
            try:
                settings, features = self._space.describe(KnownDrawing(trial.params), self._ground)
                found = Candidate(_key(settings), features, trial)
            except (IsogradError, KeyError):
                found = None
            self._known[trial.number] = found
        return self._known[trial.number]


def estimates(trials: Sequence[FrozenTrial]) -> list[float | None]:
    """Returns what each trial comes to; None: it is under way.

    Of one that was stopped early: what it had come to, times what trials that went on from there made of it on average.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return [_estimate(trial, complete) for trial in trials]


def _estimate(trial: FrozenTrial, complete: Sequence[FrozenTrial]) -> float | None:
    if trial.state == TrialState.COMPLETE:
        return trial.values[0]
    if trial.state != TrialState.PRUNED or trial.last_step is None:
        return None
    epoch = trial.last_step
    further = [other for other in complete if other.intermediate_values.get(epoch)]
    ratio = fmean(other.values[0] / other.intermediate_values[epoch] for other in further) if further else 1.0
    return trial.intermediate_values[epoch] * ratio


def _key(settings: Settings) -> str:
    return json.dumps(settings, sort_keys=True)
