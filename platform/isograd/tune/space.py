"""A search space: parameters, what each may be, and the conditions under which it exists.

A distribution turns one parameter into draws of an Optuna trial (its coordinates, in which the searcher thinks), these
into a value, and that into the options of a run. Coordinates have ranges that never change, so that samplers and
importances can compare all trials of a study.
"""

import itertools
import json
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from isograd.errors import PartitionError

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Coordinates = dict[str, Any]
Features = dict[str, tuple[float, ...]]  # a block of numbers, by what it describes
Settings = dict[str, Any]  # option -> value, as `isograd train` takes them

NUM_MODULES = "partition.num_modules"
_ABSENT = object()


@dataclass(frozen=True)
class Ground:
    """The configuration that a space's parameters change; :func:`~isograd.tune.ground.make_ground` makes it of a run's.

    Attributes:
        options: All of it, by dotted names; a group's own name leads to the name of its choice.
        num_modules_with: Returns K of a run with these settings.
        unit_names_with: Returns the backbone's units of a run with these settings.
    """

    options: Mapping[str, Any]
    num_modules_with: Callable[[Settings], int]
    unit_names_with: Callable[[Settings], Sequence[str]]


@dataclass
class Site:
    """What a distribution draws for: a ground with some settings changed, and more of them with every draw."""

    ground: Ground
    settings: Settings = field(default_factory=dict)

    @property
    def options(self) -> Mapping[str, Any]:
        """With the settings in their places."""
        return {**self.ground.options, **self.settings}

    @property
    def num_modules(self) -> int:
        """K."""
        return self.ground.num_modules_with(self.settings)

    @property
    def unit_names(self) -> Sequence[str]:
        """Of the backbone."""
        return self.ground.unit_names_with(self.settings)


class Distribution(Protocol):
    """Of one parameter; a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def draw(self, trial: "BaseTrial", name: str, site: Site) -> Any:
        """Asks the trial for the coordinates of the parameter ``name``; returns its value."""
        ...

    def settings(self, name: str, value: Any) -> Settings:
        """Returns the options that a value sets."""
        ...

    def start(self, name: str, site: Site) -> tuple[Any, Coordinates]:
        """Returns the value that the site's options have, with its coordinates: none where it lies outside."""
        ...

    def features(self, name: str, value: Any, site: Site) -> Features:
        """Returns where a value lies, so that values which act alike are close: each number from 0 to 1."""
        ...

    def __str__(self) -> str: ...


@dataclass(frozen=True)
class Number:
    """From ``low`` to ``high``, both included.

    Attributes:
        integer: Whether it is whole.
        log: Whether it is drawn on a logarithmic scale.
        complement: Whether what is drawn is 1 - value, on a logarithmic scale: for shares near 1, as an EMA decay.
        step: Distance of neighbouring values, from ``low`` on; None: any (1 for integers).
    """

    low: float
    high: float
    integer: bool = False
    log: bool = False
    complement: bool = False
    step: float | None = None

    def draw(self, trial: "BaseTrial", name: str, site: Site) -> float:
        """Returns a number."""
        if self.integer:
            return trial.suggest_int(name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        if self.complement:
            return 1 - trial.suggest_float(self.coordinate(name), 1 - self.high, 1 - self.low, log=True)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def settings(self, name: str, value: Any) -> Settings:
        """Returns the option with the number."""
        return {name: value}

    def start(self, name: str, site: Site) -> tuple[Any, Coordinates]:
        """Returns the option's number, if it lies in the range."""
        value = site.num_modules if name == NUM_MODULES else site.options.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return value, {}
        return value, {self.coordinate(name): 1 - value if self.complement else value}

    def coordinate(self, name: str) -> str:
        """Returns what the coordinate of the parameter ``name`` is called."""
        return f"1 - {name}" if self.complement else name

    def find_value(self, name: str, coordinates: Coordinates) -> float | None:
        """Returns the number of a trial with these coordinates; None: it has none."""
        drawn = coordinates.get(self.coordinate(name))
        return 1 - drawn if self.complement and drawn is not None else drawn

    def features(self, name: str, value: Any, site: Site) -> Features:
        """Returns its place in the range, on the scale that it is drawn on."""
        ends = (self.low, value, self.high)
        if self.complement:
            ends = tuple(-math.log(1 - number) for number in ends)
        elif self.log:
            ends = tuple(map(math.log, ends))
        low, place, high = ends
        return {name: ((place - low) / (high - low) if high > low else 0.0,)}

    def __str__(self) -> str:
        kind = "integer" if self.integer else "number"
        scale = ", log scale of 1 - value" if self.complement else ", log scale" if self.log else ""
        return f"{kind} from {self.low:g} to {self.high:g}{scale}" + (f", step {self.step:g}" if self.step else "")


@dataclass(frozen=True)
class Categorical:
    """One of several values without an order.

    Attributes:
        values: Label -> options that it sets.
    """

    values: Mapping[str, Settings]

    def draw(self, trial: "BaseTrial", name: str, site: Site) -> str:
        """Returns a label."""
        return trial.suggest_categorical(name, list(self.values))

    def settings(self, name: str, value: Any) -> Settings:
        """Returns the options of a label."""
        return dict(self.values[value])

    def start(self, name: str, site: Site) -> tuple[Any, Coordinates]:
        """Returns the label whose options are those of the site."""
        for label, options in self.values.items():
            if all(site.options.get(option) == value for option, value in options.items()):
                return label, {name: label}
        return None, {}

    def features(self, name: str, value: Any, site: Site) -> Features:
        """Returns 1 for the label, and 0 for the others."""
        return {name: tuple(float(label == value) for label in self.values)}

    def __str__(self) -> str:
        return f"one of {', '.join(self.values)}"


def to_label(value: Any) -> str:
    """Returns how a categorical value is called: itself, where it is text, else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True)
class Cuts:
    """Where a backbone of N units is cut into K local modules.

    Every split into K non-empty modules can be drawn, each as likely as any other before anything is known, and
    nothing else can. Coordinate i of K - 1, in [0, 1], is the share of the splits still open whose cut i lies before
    its own, so a small change of a coordinate moves a cut by a little. Each K has coordinates of its own.
    """

    def draw(self, trial: "BaseTrial", name: str, site: Site) -> list[str]:
        """Returns the last unit of every module but the last. Raises PartitionError where there are too few."""
        names, num_modules = site.unit_names, site.num_modules
        if num_modules > len(names):
            raise PartitionError(
                f"{num_modules} local modules were drawn for a backbone of {len(names)} units",
                "Each module needs at least one",
                f"Use space.{NUM_MODULES}.high={len(names)}, or a deeper backbone.",
            )
        cuts = range(1, num_modules)
        shares = [trial.suggest_float(_coordinate(name, num_modules, cut), 0, 1) for cut in cuts]
        return [names[end - 1] for end in shares_to_ends(shares, len(names))]

    def settings(self, name: str, value: Any) -> Settings:
        """Returns the explicit partition."""
        return {"partition": "explicit", NUM_MODULES: len(value) + 1, name: value}

    def start(self, name: str, site: Site) -> tuple[Any, Coordinates]:
        """Returns the even split into the site's K modules, of which the first ones may have one unit more."""
        names, num_modules = site.unit_names, site.num_modules
        share, rest = divmod(len(names), num_modules)
        ends = [share * cut + min(cut, rest) for cut in range(1, num_modules)]
        shares = enumerate(ends_to_shares(ends, len(names)), start=1)
        return [names[end - 1] for end in ends], {_coordinate(name, num_modules, cut): share for cut, share in shares}

    def features(self, name: str, value: Any, site: Site) -> Features:
        """Returns the depth of each cut, as a share of the units: of each number of cuts a block of its own."""
        names = site.unit_names
        return {f"{name} K={len(value) + 1}": tuple((names.index(end) + 1) / len(names) for end in value)}

    def __str__(self) -> str:
        return "every split into as many local modules"


def shares_to_ends(shares: Sequence[float], num_units: int) -> list[int]:
    """Returns the number of units before each cut, of the cuts that shares lead to; see :class:`Cuts`."""
    ends: list[int] = []
    for position, share in enumerate(shares):
        counts = _count_open_splits(ends[-1] if ends else 0, len(shares) - position, num_units)
        passed = list(itertools.accumulate(counts.values()))
        place = min(bisect_right(passed, share * passed[-1]), len(counts) - 1)
        ends.append(list(counts)[place])
    return ends


def ends_to_shares(ends: Sequence[int], num_units: int) -> list[float]:
    """Returns the middle of all shares that lead to these cuts."""
    shares: list[float] = []
    for position, end in enumerate(ends):
        counts = _count_open_splits(ends[position - 1] if position else 0, len(ends) - position, num_units)
        before = sum(count for cut, count in counts.items() if cut < end)
        shares.append((before + counts[end] / 2) / sum(counts.values()))
    return shares


def _count_open_splits(start: int, num_cuts: int, num_units: int) -> dict[int, int]:
    """Returns for each place of the next cut how many ways there are to place those after it."""
    places = range(start + 1, num_units - num_cuts + 1)
    return {cut: math.comb(num_units - 1 - cut, num_cuts - 1) for cut in places}


def _coordinate(name: str, num_modules: int, cut: int) -> str:
    return f"{name} K={num_modules} cut {cut}"


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
class SearchSpace:
    """Parameters, in an order in which each comes after those that its conditions name."""

    parameters: tuple[Parameter, ...]

    def suggest(self, trial: "BaseTrial", ground: Ground) -> Settings:
        """Draws every parameter whose conditions hold; returns the settings of a run."""
        return self.describe(trial, ground)[0]

    def describe(self, trial: "BaseTrial", ground: Ground) -> tuple[Settings, Features]:
        """Draws as :meth:`suggest` does; returns also where the configuration lies, for models of the space."""
        site, drawn = Site(ground), {}
        features: Features = {}
        for parameter in self._existing(drawn, site):
            name, distribution = parameter.name, parameter.distribution
            drawn[name] = value = distribution.draw(trial, name, site)
            features |= distribution.features(name, value, site)
            site.settings |= distribution.settings(name, value)
        return site.settings, features

    def start(self, ground: Ground) -> Coordinates:
        """Returns the coordinates of the ground itself, as far as it lies in the space."""
        site, drawn = Site(ground), {}
        coordinates: Coordinates = {}
        for parameter in self._existing(drawn, site):
            drawn[parameter.name], own = parameter.distribution.start(parameter.name, site)
            coordinates |= own
        return coordinates

    def _existing(self, drawn: Mapping[str, Any], site: Site) -> Iterator[Parameter]:
        """Yields the parameters whose conditions hold, each by what was drawn and set before it."""
        names = {parameter.name for parameter in self.parameters}
        for parameter in self.parameters:
            if all(_holds(name, allowed, names, drawn, site) for name, allowed in parameter.when.items()):
                yield parameter

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


def _holds(name: str, allowed: Sequence[Any], names: set[str], drawn: Mapping[str, Any], site: Site) -> bool:
    """Whether a condition holds: of a parameter that does not exist, none does."""
    if name in drawn:
        value = drawn[name]
        # A categorical parameter draws labels, and a condition may name the value: 0.1 for the label "0.1".
        return value in allowed or (isinstance(value, str) and value in map(to_label, allowed))
    if name == NUM_MODULES:
        return site.num_modules in allowed
    value = _ABSENT if name in names else site.settings.get(name, site.ground.options.get(name, _ABSENT))
    return value in allowed
