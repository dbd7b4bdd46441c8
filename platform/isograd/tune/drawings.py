"""Drawings without a trial: at random, near another one, or again. Thousands of them cost less than one proposal."""

import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

_STEP = 0.1  # of a range, on average, between a drawing and one near it
_CHANGES = 0.25  # share of the choices that differ


class RandomDrawing:
    """Draws every coordinate by itself.

    Args:
        random: Where chance comes from.

    Attributes:
        params: Coordinate -> value, of those drawn so far.
        distributions: Coordinate -> what it was drawn from, as Optuna keeps it.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Returns a number."""
        distribution = FloatDistribution(low, high, log=log, step=step)
        if step is None:
            value = _scaled(self._share(name, distribution), low, high, log)
        else:
            count = round((distribution.high - low) / step)
            value = low + step * _place(self._share(name, distribution), 0, count)
        return self._kept(name, distribution, min(max(value, low), distribution.high))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Returns a whole number."""
        distribution = IntDistribution(low, high, log=log, step=step)
        share = self._share(name, distribution)
        if log:
            value = min(max(round(_scaled(share, low - 0.5, high + 0.5, log)), low), high)
        else:
            value = low + step * _place(share, 0, (distribution.high - low) // step)
        return self._kept(name, distribution, value)

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any:
        """Returns one of the choices."""
        return self._kept(name, CategoricalDistribution(choices), self._choice(name, choices))

    def _share(self, name: str, distribution: FloatDistribution | IntDistribution) -> float:
        """Returns how far into the range a number lies, from 0 to below 1."""
        return self._random.random()

    def _choice(self, name: str, choices: Sequence[str]) -> str:
        return self._random.choice(choices)

    def _kept(self, name: str, distribution: BaseDistribution, value: Any) -> Any:
        self.params[name], self.distributions[name] = value, distribution
        return value


class NearDrawing(RandomDrawing):
    """Draws near another drawing: numbers a little beside its own, most choices the same.

    Args:
        random: Where chance comes from.
        params: Of the other one; what it has not is drawn at random.
    """

    def __init__(self, random: Random, params: Mapping[str, Any]) -> None:
        super().__init__(random)
        self._other = params

    def _share(self, name: str, distribution: FloatDistribution | IntDistribution) -> float:
        if name not in self._other:
            return super()._share(name, distribution)
        share = _share_of(self._other[name], distribution.low, distribution.high, distribution.log)
        return min(max(self._random.gauss(share, _STEP), 0.0), math.nextafter(1.0, 0.0))

    def _choice(self, name: str, choices: Sequence[str]) -> str:
        if name not in self._other or self._random.random() < _CHANGES:
            return super()._choice(name, choices)
        return self._other[name]


class KnownDrawing:
    """Draws again what was drawn before.

    Args:
        params: Coordinate -> value.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Returns the number."""
        return self._params[name]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Returns the number."""
        return self._params[name]

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any:
        """Returns the choice."""
        return self._params[name]


def _scaled(share: float, low: float, high: float, log: bool) -> float:
    if log:
        return math.exp(_scaled(share, math.log(low), math.log(high), False))
    return low + share * (high - low)


def _share_of(value: float, low: float, high: float, log: bool) -> float:
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low) if high > low else 0.5


def _place(share: float, low: int, high: int) -> int:
    """Returns a whole number of the range, each as likely as any other."""
    return low + min(int(share * (high - low + 1)), high - low)
