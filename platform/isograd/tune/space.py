"""A search space: parameters, the conditions under which they exist, and what a run is given of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from isograd.tune.distributions import (
    NUM_MODULES,
    Categorical,
    Coordinates,
    Distribution,
    Drawing,
    Features,
    Settings,
    label,
)

_ABSENT = object()


@dataclass(frozen=True)
class Parameter:
    """Attributes:
    name: The option that it sets; any name, where its values say which options they set.
    distribution: What it may be.
    when: Parameter or option -> the values with which this parameter exists; all of them have to hold.
    """

    name: str
    distribution: Distribution
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def sets(self) -> set[str]:
        """The options that it sets; its own name, where its values say them, is none."""
        if isinstance(self.distribution, Categorical):
            return {option for options in self.distribution.values.values() for option in options}
        return {self.name}


@dataclass(frozen=True)
class Ground:
    """The configuration that a space's parameters change.

    Attributes:
        options: All of it, by dotted names; a group's own name leads to the name of its choice.
        num_modules_with: Returns K of a run with these settings.
        unit_names_with: Returns the backbone's units of a run with these settings.
    """

    options: Mapping[str, Any]
    num_modules_with: Callable[[Settings], int]
    unit_names_with: Callable[[Settings], Sequence[str]]


@dataclass
class Changed:
    """A ground with some settings changed, and more of them with every draw.

    Implements :class:`~isograd.tune.distributions.Site`.
    """

    ground: Ground
    settings: Settings = field(default_factory=dict)

    @property
    def options(self) -> Mapping[str, Any]:
        """With the settings in their places."""
        return {**self.ground.options, **self.settings}

    def option(self, name: str) -> Any:
        """Returns one of them; nothing that equals it, where there is none."""
        return self.settings[name] if name in self.settings else self.ground.options.get(name, _ABSENT)

    @property
    def num_modules(self) -> int:
        """K."""
        return self.ground.num_modules_with(self.settings)

    @property
    def unit_names(self) -> Sequence[str]:
        """Of the backbone."""
        return self.ground.unit_names_with(self.settings)


@dataclass(frozen=True)
class SearchSpace:
    """Parameters, in an order in which each comes after those that its conditions name."""

    parameters: tuple[Parameter, ...]

    def suggest(self, trial: Drawing, ground: Ground) -> Settings:
        """Draws every parameter whose conditions hold; returns the settings of a run."""
        site = Changed(ground)
        for _ in self._draws(trial, site):
            pass
        return site.settings

    def describe(self, trial: Drawing, ground: Ground) -> tuple[Settings, Features]:
        """Draws as :meth:`suggest` does; returns also where the configuration lies, for models of the space."""
        site = Changed(ground)
        features: Features = {}
        for parameter, value in self._draws(trial, site):
            features |= parameter.distribution.features(parameter.name, value, site)
        return site.settings, features

    def start(self, ground: Ground) -> Coordinates:
        """Returns the coordinates of the ground itself, as far as it lies in the space."""
        found: Coordinates = {}
        drawn: dict[str, Any] = {}
        site = Changed(ground)
        for parameter in self.parameters:
            if self._exists(parameter, drawn, site):
                drawn[parameter.name], coordinates = parameter.distribution.start(parameter.name, site)
                found |= coordinates
        return found

    def _draws(self, trial: Drawing, site: Changed) -> Iterator[tuple[Parameter, Any]]:
        """Yields each parameter that exists, with its value, and then sets it."""
        drawn: dict[str, Any] = {}
        for parameter in self.parameters:
            if self._exists(parameter, drawn, site):
                value = parameter.distribution.draw(trial, parameter.name, site)
                yield parameter, value
                drawn[parameter.name] = value
                site.settings |= parameter.distribution.settings(parameter.name, value)

    def _exists(self, parameter: Parameter, drawn: Mapping[str, Any], site: Changed) -> bool:
        return all(self._holds(name, allowed, drawn, site) for name, allowed in parameter.when.items())

    def _holds(self, name: str, allowed: Sequence[Any], drawn: Mapping[str, Any], site: Changed) -> bool:
        value = self._value(name, drawn, site)
        # A categorical parameter draws labels, and a condition may name the value: 0.1 for the label "0.1".
        return value in allowed or (isinstance(drawn.get(name), str) and value in map(label, allowed))

    def _value(self, name: str, drawn: Mapping[str, Any], site: Changed) -> Any:
        if name in drawn:
            return drawn[name]
        if name == NUM_MODULES:
            return site.num_modules
        return _ABSENT if name in self._names else site.option(name)

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(parameter.name for parameter in self.parameters)

    def to_json(self) -> dict[str, Any]:
        """Returns what tells this space from another one."""
        return {
            parameter.name: {
                "distribution": type(parameter.distribution).__name__.lower(),
                **asdict(parameter.distribution),
                "when": {name: list(values) for name, values in parameter.when.items()},
            }
            for parameter in self.parameters
        }
