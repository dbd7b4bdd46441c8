"""From the entries of a composed search space to its parameters, each checked by itself and against the options."""

import dataclasses
import graphlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, Protocol, TypeGuard

from omegaconf.errors import OmegaConfBaseException, ValidationError

from isograd.config.load import groups, split_model
from isograd.config.override import option_names
from isograd.config.typed import typed
from isograd.engine.check import RANGES
from isograd.engine.config import RunConfig
from isograd.errors import ConfigError, SpaceError
from isograd.options import check_field, check_number
from isograd.registry import suggestion
from isograd.tune.space import Categorical, Cuts, Distribution, Number, Parameter, SearchSpace, to_label

KEYS = {  # of a parameter, by its distribution
    "float": ("low", "high", "log", "step"),
    "int": ("low", "high", "log", "step"),
    "categorical": ("values",),
    "cuts": (),
}
COMMAND_LINE = "the command line"  # where an entry was written that stands in no file
NO_PARAMETERS = (
    "the search space has 0 parameters",
    "There would be nothing to search",
    "Use section `parameters`, with a distribution for each, as search_spaces/README.md shows.",
)
_COMPLEMENT = "complement"
_ROUNDING = 1e-6  # of a step
_CUT_AFTER = ("model", "data", "partition.num_modules")  # options that say what is cut, and into how many


class Places(Protocol):
    """Says where an entry was written."""

    def at(self, *path: str) -> str:
        """Returns the place as ``file.yaml:12``."""
        ...


def build_space(tree: Mapping[str, Any], places: Places) -> SearchSpace:
    """Returns the parameters of a composed space, whose section ``parameters`` is a tree of options by their dots.

    Raises:
        SpaceError: A parameter or a condition is malformed, or names what does not exist.
    """
    entries: dict[str, _Entry] = {}
    for path, spec in iterate_entries(tree):
        if not isinstance(spec, Mapping):
            raise SpaceError(
                f"{places.at('parameters', *path)}: {'.'.join(path)}={spec} is no parameter",
                "A parameter is a mapping with the key `distribution`",
                f"Use {{distribution: {' | '.join(KEYS)}, ...}}.",
            )
        # With null, a space takes away what its defaults say.
        given = {key: value for key, value in spec.items() if value is not None}
        entries[".".join(path)] = _Entry(path, given, places)
    if not entries:
        raise SpaceError(*NO_PARAMETERS)
    parameters = {name: Parameter(name, entry.distribution(), entry.conditions()) for name, entry in entries.items()}
    for entry in entries.values():
        entry.check_conditions(parameters)
    return SearchSpace(tuple(parameters[name] for name in _sort(parameters, entries)))


def iterate_entries(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yields the path of each parameter with what is written of it: a mapping, or what is none and stands in its place.

    With null, a space leaves out what its defaults search.
    """
    if isinstance(tree, Mapping) and "distribution" not in tree:
        for key, inner in tree.items():
            yield from iterate_entries(inner, (*path, str(key)))
    elif tree is not None:
        yield path, tree


def _sort(parameters: Mapping[str, Parameter], entries: Mapping[str, "_Entry"]) -> tuple[str, ...]:
    """Returns the names so that conditions, and cuts, come after what they depend on."""
    sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
    for name, parameter in parameters.items():
        of_cuts = _CUT_AFTER if isinstance(parameter.distribution, Cuts) else ()
        before = {
            other
            for other in parameters
            if other != name
            and any(
                option in parameter.when or option.startswith(of_cuts) for option in (other, *parameters[other].sets)
            )
        }
        sorter.add(name, *before)
    try:
        return tuple(sorter.static_order())
    except graphlib.CycleError as error:
        cycle = error.args[1]
        raise SpaceError(
            f"{entries[cycle[0]].place('when')}: the conditions of {' and '.join(dict.fromkeys(cycle))} depend on "
            "each other",
            "None of them could be drawn before the others",
            "Leave one of these conditions out.",
        ) from error


@dataclasses.dataclass(frozen=True)
class _Entry:
    """A parameter as it is written."""

    path: tuple[str, ...]
    spec: dict[str, Any]
    places: Places

    @property
    def name(self) -> str:
        return ".".join(self.path)

    def place(self, *keys: str) -> str:
        return self.places.at("parameters", *self.path, *keys)

    def distribution(self) -> Distribution:
        kind = self.spec["distribution"]
        if kind not in KEYS:
            self._refuse(
                f"unknown distribution '{kind}'.{suggestion(str(kind), list(KEYS))}",
                "It says how values are drawn",
                f"Use {', '.join(KEYS)}.",
                "distribution",
            )
        self._check_keys(kind)
        if kind == "cuts":
            self._check_option(self.name, ["unit"])
            return Cuts()
        return self._categorical() if kind == "categorical" else self._number(kind == "int")

    def conditions(self) -> dict[str, tuple[Any, ...]]:
        when = self.spec.get("when") or {}
        if not isinstance(when, Mapping):
            self._refuse(f"when={when} is no condition", "It maps names to values", "Use when: {NAME: VALUE}.", "when")
        return {str(name): tuple(value) if isinstance(value, list) else (value,) for name, value in when.items()}

    def check_conditions(self, parameters: Mapping[str, Parameter]) -> None:
        options = [*option_names(groups()), *groups()]
        for name, values in self.conditions().items():
            if name not in parameters and name not in options:
                self._refuse(
                    f"the condition on '{name}' names no parameter and no option."
                    f"{suggestion(name, [*parameters, *options])}",
                    f"The parameters are: {', '.join(parameters)}",
                    "Use one of these, or an option of `isograd train --config`.",
                    "when",
                    name,
                )
            if name == self.name or not values:
                self._refuse(
                    f"the condition {name}={list(values)} can never hold",
                    "A parameter cannot depend on itself" if values else "It names no value",
                    "Leave it out, or name other values.",
                    "when",
                    name,
                )
            for value in values:
                self._check_condition(name, value, parameters)

    def _check_condition(self, name: str, value: Any, parameters: Mapping[str, Parameter]) -> None:
        """Refuses a value that the parameter, or an option which nothing here searches, can never have."""
        distribution = parameters[name].distribution if name in parameters else None
        why, choices = None, groups().get(name)
        if isinstance(distribution, Categorical):
            labels = distribution.values
            if value not in (*labels, *(options.get(name) for options in labels.values())):
                self._refuse(
                    f"the condition {name}={value} can never hold.{suggestion(str(value), list(labels))}",
                    f"{name} is {distribution}",
                    "Use one of these values.",
                    "when",
                    name,
                )
        elif isinstance(distribution, Number):
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not distribution.low <= value <= distribution.high:
                why = f"{name} is {distribution}"
        elif distribution is None and not any(name in other.sets for other in parameters.values()):
            if choices is None:
                why = _refusal_of(name, value)
            elif split_model(str(value))[0] not in choices:
                why = f"It can be {', '.join(choices)}"
        if why is not None:
            what = f"the condition {name}={value!r} can never hold"
            self._refuse(what, why, "Use a value that it can have.", "when", name)

    def _check_keys(self, kind: str) -> None:
        known = ("distribution", "when", *KEYS[kind])
        for key in self.spec:
            if key not in known:
                self._refuse(
                    f"unknown key '{key}'.{suggestion(key, list(known))}",
                    f"A parameter with distribution {kind} has {', '.join(known)}",
                    f"Use one of these keys, and {key}: null where a default has it.",
                    key,
                )
        for key in KEYS[kind]:
            if key not in ("log", "step") and key not in self.spec:
                self._refuse(
                    f"it has no {key}", f"A parameter with distribution {kind} needs one", f"Use {key}: VALUE."
                )

    def _categorical(self) -> Categorical:
        values = self.spec["values"]
        if not values or not isinstance(values, list | Mapping):
            self._refuse(
                f"values={values} is no choice",
                "There has to be at least one value: a list, or a mapping from labels to options",
                "Use values: [A, B], or values: {LABEL: {OPTION: VALUE}}.",
                "values",
            )
        if isinstance(values, list):
            for value in values:
                self._check_option(self.name, value)
            return Categorical({to_label(value): {self.name: value} for value in values})
        for label, options in values.items():
            if not isinstance(options, Mapping):
                self._refuse(
                    f"value '{label}' sets {options}, which is no option",
                    "In a mapping of values each one says which options it sets",
                    "Use values: {LABEL: {OPTION: VALUE}}, or a list of values.",
                    "values",
                    str(label),
                )
            for option, value in options.items():
                self._check_option(str(option), value, "values", str(label), str(option))
        return Categorical({str(label): dict(options) for label, options in values.items()})

    def _number(self, integer: bool) -> Number:
        low, high, log, step = (self.spec.get(key) for key in ("low", "high", "log", "step"))
        for key, bound in (("low", low), ("high", high)):
            if not _is_number(bound, integer):
                kind = "a whole number" if integer else "a number"
                near = round(bound) if _is_number(bound, integer=False) else 1
                self._refuse(f"{key}={bound} is not {kind}", "It bounds the values", f"Use {key}: {near}.", key)
            self._check_option(self.name, bound, key)
        assert isinstance(low, int | float) and isinstance(high, int | float)
        if low > high:
            key = "high" if self.place("high") == COMMAND_LINE else "low"
            mend = f"Use {key}: {low if key == 'high' else high}, or other bounds."
            self._refuse(f"low={low} is more than high={high}", "No value lies between", mend, key)
        self._check_log(integer, low, high, log, step)
        if step is not None:
            self._check_step(integer, low, high, step)
        return Number(low, high, integer, log is True, log == _COMPLEMENT, step)

    def _check_log(self, integer: bool, low: float, high: float, log: Any, step: Any) -> None:
        if log not in (None, False, True, _COMPLEMENT) or (integer and log == _COMPLEMENT):
            scales = "true or false" if integer else f"true, false or {_COMPLEMENT}"
            self._refuse(f"log={log} is no scale", f"It is {scales}", "Use log: true.", "log")
        if log and step:
            what = f"step={step} does not go with log={log}"
            self._refuse(what, "Steps are equal, a log scale's are not", "Leave one out.", "step")
        if (log is True and low <= 0) or (log == _COMPLEMENT and not (low >= 0 and high < 1)):
            self._refuse(
                f"from {low:g} to {high:g} {'has no logarithm' if log is True else 'is no share'}",
                "log: true needs values above 0, log: complement values from 0 to below 1",
                "Use other bounds, or log: false.",
                "log",
            )

    def _check_step(self, integer: bool, low: float, high: float, step: Any) -> None:
        if isinstance(step, bool) or not isinstance(step, int if integer else int | float) or step <= 0:
            kind = "whole number" if integer else "number"
            self._refuse(f"step={step} is no distance", f"It is a {kind} above 0", "Use step: 1.", "step")
        count = round((high - low) / step)
        if abs(low + count * step - high) > _ROUNDING * step:
            reached = low + math.floor((high - low) / step) * step
            self._refuse(
                f"step={step} does not lead from {low:g} to {high:g}",
                "Both ends can be drawn, and what lies whole steps between",
                f"Use high: {reached:g}, or another step.",
                "step",
            )

    def _check_option(self, option: str, value: Any, *keys: str) -> None:
        """Checks that an option exists and may have this value, in at least one of the choices that have it."""
        known = groups()
        if option in known:
            return
        if not find_owners(option):
            self._refuse(
                f"there is no option '{option}'.{suggestion(option, option_names(known))}",
                "A parameter sets an option of the run, by its dotted name",
                "Use a name that `isograd train --config` prints, or values that say which options they set.",
                *keys,
            )
        if reason := _refusal_of(option, value):
            self._refuse(f"{option}={value}: {reason}", "No run can have it", "Use another value.", *keys)

    def _refuse(self, what: str, why: str, mend: str, *keys: str) -> NoReturn:
        raise SpaceError(f"{self.place(*keys)}: parameter {self.name}: {what}", why, mend)


def _is_number(value: Any, integer: bool) -> TypeGuard[int | float]:
    kind = int if integer else int | float
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)


def find_owners(option: str) -> list[Any]:
    """Returns the default configurations that have the option; one that is a mapping has any name within."""
    section, _, name = option.partition(".")
    if not name:
        return [RunConfig()] if section in {item.name for item in dataclasses.fields(RunConfig)} else []
    plain = getattr(RunConfig(), section, None)
    candidates = list(groups().get(section, {}).values()) or ([] if plain is None else [plain])
    first, _, inner = name.partition(".")
    return [
        owner
        for owner in candidates
        if any(item.name == first and (not inner or item.default_factory is dict) for item in dataclasses.fields(owner))
    ]


def _refusal_of(option: str, value: Any) -> str | None:
    """Returns why no choice that has the option can have this value; None where one can."""
    reasons = [_refusal_by(owner, option, value) for owner in find_owners(option)]
    return None if None in reasons else next(iter(reasons), None)


def _refusal_by(owner: Any, option: str, value: Any) -> str | None:
    name = option.partition(".")[2] or option
    if "." in name:
        return None
    try:
        had = getattr(typed(owner, {name: value}), name)
        if had != value:  # 0.1 for the text "0.1"
            raise ValidationError(f"{value!r} is of another type than {had!r}")
        check_field(option, next(item for item in dataclasses.fields(owner) if item.name == name), value)
        if option in RANGES and value is not None:
            check_number(option, value, RANGES[option])
    except ConfigError as error:
        return f"{error.what}. {error.why}"
    except OmegaConfBaseException as error:
        return str(error).splitlines()[0]
    return None
