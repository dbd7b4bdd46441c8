"""A sampler that knows the space: it judges whole configurations, drawn by the space itself.

It sees where the cuts lie and what a condition leaves out, and chooses among candidates by a Gaussian process.
"""

from collections.abc import Sequence
from statistics import fmean

from optuna.trial import FrozenTrial, TrialState

from isograd.tune.drawings import NearDrawing
from isograd.tune.space import Ground, SearchSpace
from isograd.tune.surrogate import Surrogate
from isograd.tune.untried import Candidate, UntriedSampler

_NUM_CENTRES, _NUM_NEAR = 3, 8  # candidates a proposal, near each of the best trials
_NUM_FIRST, _NUM_MORE, _MOST_DISTANT = 200, 12, 256  # candidates from all of the space: at first, a proposal, kept


class SpaceSampler(UntriedSampler):
    """Proposes the candidate of which most improvement is expected, of one objective that is minimised.

    Args:
        space: What is searched.
        ground: What the space stands on.
        seed: Of the candidates.
        num_startup: Trials drawn at random before it follows what it has seen.
    """

    def __init__(self, space: SearchSpace, ground: Ground, seed: int, num_startup: int) -> None:
        super().__init__(space, ground, seed)
        self._num_startup, self._surrogate = num_startup, Surrogate()
        self._distant: dict[str, Candidate] = {}

    def choose(self, trials: Sequence[FrozenTrial]) -> Candidate | None:
        """Returns what is tried next, after these trials; None: nothing that is new was found."""
        candidates = self._candidates(trials)
        if not candidates:
            return super().choose(trials)
        known = [(trial, place) for trial in trials if trial.state != TrialState.FAIL and (place := self.place(trial))]
        values = estimates([trial for trial, _ in known])
        if len(known) < self._num_startup or all(value is None for value in values):
            return candidates[-1]
        places = [candidate.features for candidate in candidates]
        expected = self._surrogate.expected_improvement([place.features for _, place in known], values, places)
        return candidates[int(expected.argmax())]

    def _candidates(self, trials: Sequence[FrozenTrial]) -> list[Candidate]:
        """Returns what was not tried, near the best trials and from all of the space."""
        tried = self.tried(trials)
        complete = sorted(
            (trial for trial in trials if trial.state == TrialState.COMPLETE), key=lambda trial: trial.values
        )
        centres = [trial.params for trial in complete[:_NUM_CENTRES] for _ in range(_NUM_NEAR)]
        near = [self.drawn(NearDrawing(self._random, params)) for params in centres]
        distant = [*self._distant.values(), *self.at_random(_NUM_MORE if self._distant else _NUM_FIRST)]
        self._distant = {found.key: found for found in distant[-_MOST_DISTANT:] if found.key not in tried}
        return list(({found.key: found for found in near if found and found.key not in tried} | self._distant).values())


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
