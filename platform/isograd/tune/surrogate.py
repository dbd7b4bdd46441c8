"""A Gaussian process over a search space: what a configuration that was not tried may come to.

Each block of features (a parameter; the cuts into K modules) has a length scale of its own, which is learnt: so it
finds out which parameters matter. Values are compared by ratio where all are positive, as errors, bytes and seconds
are, else by difference.

Kernel: Matérn 5/2 (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, eq. 4.17). The scales climb
the marginal likelihood (eq. 5.8) with a log-normal prior, a step a proposal. What is worth trying is judged by expected
improvement (Jones, Schonlau and Welch, 1998, eq. 15).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky, solve_triangular
from scipy.spatial.distance import cdist
from scipy.special import ndtr

from isograd.tune.space import Features

Array = NDArray[np.floating[Any]]

_NOISE = "noise"  # among the scales: of the values, in shares of their variance
_PRIOR, _PRIOR_NOISE = math.log(0.3), math.log(0.1)  # length scales are in shares of a range
_STEP = 0.5  # by which the logarithm of a scale is moved
_GROWTH = 17 / 16
_ABSENT = -1.0  # of a block that a configuration does not have: far from every place in it


class Surrogate:
    """Learns from known configurations; keeps the scales that it has found, to go on from."""

    def __init__(self) -> None:
        self._scales: dict[str, float] = {}  # block -> logarithm of its scale
        self._num_learnt = 0  # how many configurations were known when they were moved

    def expected_improvement(
        self, known: Sequence[Features], values: Sequence[float | None], candidates: Sequence[Features]
    ) -> Array:
        """Returns how much better than the best of the known each candidate is expected to be; without a unit.

        Args:
            known: At least one configuration.
            values: Theirs, of which less is better; None: under way, taken for an average one.
            candidates: To judge.
        """
        target, places, count = _standardise(values), _places([*known, *candidates]), len(known)
        within = {block: cdist(place[:count], place[:count], "sqeuclidean") for block, place in places.items()}
        across = {block: cdist(place[:count], place[count:], "sqeuclidean") for block, place in places.items()}
        scales = self._learn(within, target)
        root = _root(_scale(within, scales), scales[_NOISE])
        weights = solve_triangular(root, _kernel(_scale(across, scales)), lower=True, check_finite=False)
        mean = weights.T @ solve_triangular(root, target, lower=True, check_finite=False)
        deviation = np.sqrt(np.maximum(1 - (weights**2).sum(0), 1e-9))
        gain = target.min() - mean
        z = gain / deviation
        return gain * ndtr(z) + deviation * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)

    def _learn(self, squares: Mapping[str, Array], target: Array) -> dict[str, float]:
        """Moves the scales whenever a sixteenth more is known: later ones tell little, and cost the most."""
        self._scales = {name: self._scales.get(name, _prior(name)) for name in (*squares, _NOISE)}
        if len(target) >= self._num_learnt * _GROWTH:
            self._scales, self._num_learnt = _climb(self._scales, squares, target), len(target)
        return self._scales


def _standardise(values: Sequence[float | None]) -> Array:
    """Returns values with mean 0 and variance 1, of their logarithms where all have one."""
    numbers = np.array([math.nan if value is None else value for value in values])
    if np.nanmin(numbers) > 0:
        numbers = np.log(numbers)
    return np.nan_to_num((numbers - np.nanmean(numbers)) / (np.nanstd(numbers) + 1e-9))


def _places(configurations: Sequence[Features]) -> dict[str, Array]:
    """Returns for each block where the configurations lie in it, (configurations, width)."""
    widths = {block: len(place) for features in configurations for block, place in features.items()}
    return {
        block: np.array([features.get(block, (_ABSENT,) * width) for features in configurations])
        for block, width in widths.items()
    }


def _scale(squares: Mapping[str, Array], scales: Mapping[str, float]) -> Array:
    """Returns squared distances over all blocks, in units of their length scales."""
    return np.sum([square * math.exp(-2 * scales[block]) for block, square in squares.items()], axis=0)


def _kernel(squared_distance: Array) -> Array:
    distance = np.sqrt(5 * squared_distance)
    return (1 + distance + distance**2 / 3) * np.exp(-distance)


def _root(squared_distance: Array, noise: float) -> Array:
    """Returns the Cholesky factor of the values' covariance."""
    covariance = _kernel(squared_distance)
    covariance[np.diag_indices_from(covariance)] += math.exp(noise)
    return cholesky(covariance, lower=True, check_finite=False)


def _prior(block: str) -> float:
    return _PRIOR_NOISE if block == _NOISE else _PRIOR


def _climb(scales: dict[str, float], squares: Mapping[str, Array], target: Array) -> dict[str, float]:
    """Returns the scales, each moved by a step where the values become more likely."""
    distance = _scale(squares, scales)
    best = _likelihood(distance, scales, target)
    for block, scale in scales.items():
        for moved in (scale - _STEP, scale + _STEP):
            tried = {**scales, block: moved}
            further = 0.0 if block == _NOISE else squares[block] * (math.exp(-2 * moved) - math.exp(-2 * scale))
            reached = _likelihood(distance + further, tried, target)
            if reached > best:
                scales, best, distance = tried, reached, distance + further
                break
    return scales


def _likelihood(squared_distance: Array, scales: Mapping[str, float], target: Array) -> float:
    """Returns the logarithm of how likely values and scales are, up to a constant."""
    try:
        root = _root(squared_distance.clip(0), scales[_NOISE])
    except LinAlgError:
        return -math.inf
    solved = solve_triangular(root, target, lower=True, check_finite=False)
    prior = sum((scale - _prior(block)) ** 2 for block, scale in scales.items()) / 2
    return float(-(solved @ solved) / 2 - np.log(np.diag(root)).sum() - prior)
