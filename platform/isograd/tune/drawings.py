"""Drawings without a trial: at random, near another one, or again. Thousands of them cost less than one proposal."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

_ROUNDING = 1e-9
_STEP = 0.1  # of a range, on average, between a drawing and one near it
_CHANGES = 0.25  # share of the choices that differ


class RandomDrawing:
    """Draws every coordinate by itself.

    Args:
        random: Where chance comes from.

    Attributes:
        params: Coordinate -> value, of those drawn so far.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self.params: dict[str, Any] = {}
        self._asked: dict[str, Callable[[], BaseDistribution]] = {}

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Coordinate -> what it was drawn from, as Optuna keeps it."""
        return {name: made() for name, made in self._asked.items()}

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Returns a number."""
        self._asked[name] = partial(FloatDistribution, low, high, log=log, step=step)
        count = None if step is None else int((high - low) / step + _ROUNDING)
        share = self._share(name, low, high if count is None or step is None else low + count * step, log)
        value = _scaled(share, low, high, log) if count is None or step is None else low + step * _place(share, count)
        return self._kept(name, min(max(value, low), high))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Returns a whole number."""
        self._asked[name] = partial(IntDistribution, low, high, log=log, step=step)
        count = (high - low) // step
        share = self._share(name, low, low + count * step, log)
        if not log:
            return self._kept(name, low + step * _place(share, count))
        return self._kept(name, min(max(round(_scaled(share, low - 0.5, high + 0.5, log)), low), high))

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any:
        """Returns one of the choices."""
        self._asked[name] = partial(CategoricalDistribution, choices)
        return self._kept(name, self._choice(name, choices))

    def _share(self, name: str, low: float, high: float, log: bool) -> float:
        """Returns how far into the range a number lies, from 0 to below 1."""
        return self._random.random()

    def _choice(self, name: str, choices: Sequence[str]) -> str:
        return self._random.choice(choices)

    def _kept(self, name: str, value: Any) -> Any:
        self.params[name] = value
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

    def _share(self, name: str, low: float, high: float, log: bool) -> float:
        if name not in self._other:
            return super()._share(name, low, high, log)
        share = _share_of(self._other[name], low, high, log)
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


def _place(share: float, count: int) -> int:
    """Returns a number from 0 to ``count``, each as likely as any other."""
    return min(int(share * (count + 1)), count)
