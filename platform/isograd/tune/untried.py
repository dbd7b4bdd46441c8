"""Samplers that draw whole configurations through the space itself, and none that was tried.

Optuna's samplers see coordinates one by one, so they cannot know that two drawings lead to the same cuts.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from isograd.errors import IsogradError
from isograd.tune.distributions import Features, Settings
from isograd.tune.drawings import KnownDrawing, RandomDrawing
from isograd.tune.space import Ground, SearchSpace

_MOST_DRAWS = 5000  # until all of a space counts as tried


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


class UntriedSampler(BaseSampler):
    """Random search that proposes nothing twice; where it finds nothing new, coordinates at random.

    Args:
        space: What is searched.
        ground: What the space stands on.
        seed: Of the drawings.
    """

    def __init__(self, space: SearchSpace, ground: Ground, seed: int) -> None:
        self._space, self._ground = space, ground
        self._random, self._by_chance = Random(seed), RandomSampler(seed=seed)
        self._known: dict[int, Candidate | None] = {}  # trial -> where it lies; None: its drawing was broken off
        self._is_exhausted = False

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Chooses a candidate; returns what its coordinates were drawn from. Empty: they are drawn at random."""
        earlier = [other for other in study.get_trials(deepcopy=False) if other.number < trial.number]
        self._chosen = self.choose(earlier)
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

    def choose(self, trials: Sequence[FrozenTrial]) -> Candidate | None:
        """Returns what is tried next, after these trials; None: nothing that is new was found."""
        if self._is_exhausted:
            return None
        tried = self.tried(trials)
        found = next((found for found in self.at_random(_MOST_DRAWS) if found.key not in tried), None)
        self._is_exhausted = found is None
        return found

    def tried(self, trials: Sequence[FrozenTrial]) -> set[str]:
        """Returns the keys of what was tried, and of what was drawn and refused."""
        return {place.key for trial in trials if (place := self.place(trial))}

    def at_random(self, count: int) -> Iterator[Candidate]:
        """Yields candidates from all of the space: of so many drawings those that lead to something."""
        for _ in range(count):
            if found := self.drawn(RandomDrawing(self._random)):
                yield found

    def drawn(self, drawing: RandomDrawing) -> Candidate | None:
        """Returns where a drawing leads to; None: to nothing that exists."""
        try:
            settings, features = self._space.describe(drawing, self._ground)
        except IsogradError:
            return None
        return Candidate(_key(settings), features, drawing)

    def place(self, trial: FrozenTrial) -> Candidate | None:
        """Returns where a trial lies, known from then on; None: its drawing led to nothing that exists."""
        if trial.number not in self._known:
            try:
                settings, features = self._space.describe(KnownDrawing(trial.params), self._ground)
                found = Candidate(_key(settings), features, trial)
            except (IsogradError, KeyError):
                found = None
            self._known[trial.number] = found
        return self._known[trial.number]


def _key(settings: Settings) -> str:
    return json.dumps(settings, sort_keys=True)
