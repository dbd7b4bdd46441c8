"""From the entries of a composed search space to its parameters, each checked by itself and against the options."""

import dataclasses
import graphlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, Protocol, TypeGuard

from omegaconf.errors import OmegaConfBaseException, ValidationError

from isograd.config.load import groups, split_model
from isograd.config.override import option_names
from isograd.config.typed import typed
from isograd.engine.check import CHOICES, RANGES
from isograd.errors import ConfigError, SpaceError
from isograd.options import check_choice, check_field, check_number
from isograd.registry import suggestion
from isograd.tune.distributions import Categorical, Cuts, Distribution, Number, label
from isograd.tune.space import Parameter, SearchSpace

KEYS = {  # of a parameter, by its distribution
    "float": ("low", "high", "log", "step"),
    "int": ("low", "high", "log", "step"),
    "categorical": ("values",),
    "cuts": (),
}
COMMAND_LINE = "the command line"  # where an entry was written that stands in no file
_COMPLEMENT = "complement"
_ROUNDING = 1e-6  # of a step
_CUT_AFTER = ("model", "data", "partition.num_modules")  # options that say what is cut, and into how many


class Places(Protocol):
    """Says where an entry was written."""

    def at(self, *path: str) -> str:
        """Returns the place as ``file.yaml:12``."""
        ...


def parameters(tree: Mapping[str, Any], places: Places) -> SearchSpace:
    """Returns the parameters of a space.

    Args:
        tree: Section ``parameters`` of a composed space: options, nested by their dots.
        places: Of the entries.

    Raises:
        SpaceError: A parameter or a condition is malformed, or names what does not exist.
    """
    entries = [_Entry(path, _given(spec), places) for path, spec in _leaves((), tree, places)]
    if not entries:
        raise SpaceError(
            "the search space has 0 parameters",
            "There would be nothing to search",
            "Use section `parameters`, with a distribution for each, as search_spaces/README.md shows.",
        )
    by_name = {entry.name: entry for entry in entries}
    found = {name: Parameter(name, entry.distribution(), entry.conditions()) for name, entry in by_name.items()}
    for entry in entries:
        entry.check_conditions(found)
    return SearchSpace(tuple(found[name] for name in _ordered(found, by_name)))


def _leaves(path: tuple[str, ...], tree: Any, places: Places) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    if tree is None:  # how a space leaves out what its defaults search
        return
    if not isinstance(tree, Mapping):
        raise SpaceError(
            f"{places.at('parameters', *path)}: {'.'.join(path)}={tree} is no parameter",
            "A parameter is a mapping with the key `distribution`",
            f"Use {{distribution: {' | '.join(KEYS)}, ...}}.",
        )
    if "distribution" in tree:
        yield path, tree
        return
    for key, inner in tree.items():
        yield from _leaves((*path, str(key)), inner, places)


def _given(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of an entry; with null, one takes away what its defaults say."""
    return {key: value for key, value in spec.items() if value is not None}


def _ordered(found: Mapping[str, Parameter], entries: Mapping[str, "_Entry"]) -> Iterator[str]:
    """Yields the names so that conditions, and cuts, come after what they depend on."""
    sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
    for name, parameter in found.items():
        before = {
            other for other in found if other != name and any(map(_needed_by(parameter), {other, *found[other].sets}))
        }
        sorter.add(name, *before)
    try:
        return iter(tuple(sorter.static_order()))
    except graphlib.CycleError as error:
        cycle = error.args[1]
        raise SpaceError(
            f"{entries[cycle[0]].place('when')}: the conditions of {' and '.join(dict.fromkeys(cycle))} depend on "
            "each other",
            "None of them could be drawn before the others",
            "Leave one of these conditions out.",
        ) from error


def _needed_by(parameter: Parameter) -> Callable[[str], bool]:
    """Returns whether an option, or a parameter, has to be known before this parameter can be drawn."""
    of_cuts = _CUT_AFTER if isinstance(parameter.distribution, Cuts) else ()
    return lambda name: name in parameter.when or name.startswith(of_cuts)


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
            raise self._error(
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
            raise self._error(
                f"when={when} is no condition", "It maps names to values", "Use when: {NAME: VALUE}.", "when"
            )
        return {str(name): tuple(value) if isinstance(value, list) else (value,) for name, value in when.items()}

    def check_conditions(self, found: Mapping[str, Parameter]) -> None:
        options = [*option_names(groups()), *groups()]
        for name, values in self.conditions().items():
            if name not in found and name not in options:
                known = [*found, *options]
                raise self._error(
                    f"the condition on '{name}' names no parameter and no option.{suggestion(name, known)}",
                    f"The parameters are: {', '.join(found)}",
                    "Use one of these, or an option of `isograd train --config`.",
                    "when",
                    name,
                )
            if name == self.name or not values:
                raise self._error(
                    f"the condition {name}={list(values)} can never hold",
                    "A parameter cannot depend on itself" if values else "It names no value",
                    "Leave it out, or name other values.",
                    "when",
                    name,
                )
            distribution = found[name].distribution if name in found else None
            if isinstance(distribution, Categorical):
                self._check_labels(name, values, distribution)
            elif isinstance(distribution, Number):
                self._check_reachable(name, values, distribution)
            elif distribution is None and not any(name in found[other].sets for other in found):
                self._check_possible(name, values)

    def _check_labels(self, name: str, values: tuple[Any, ...], distribution: Categorical) -> None:
        allowed = [*distribution.values, *(options.get(name) for options in distribution.values.values())]
        for value in values:
            if value not in allowed:
                raise self._error(
                    f"the condition {name}={value} can never hold.{suggestion(str(value), list(distribution.values))}",
                    f"{name} is {distribution}",
                    "Use one of these values.",
                    "when",
                    name,
                )

    def _check_reachable(self, name: str, values: tuple[Any, ...], distribution: Number) -> None:
        for value in values:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not distribution.low <= value <= distribution.high:
                self._never_holds(name, value, f"{name} is {distribution}")

    def _check_possible(self, name: str, values: tuple[Any, ...]) -> None:
        """Checks the values of a run's option, which nothing here searches."""
        choices = groups().get(name)
        for value in values:
            if choices is not None:
                if split_model(str(value))[0] not in choices:
                    self._never_holds(name, value, f"It can be {', '.join(choices)}")
            elif reasons := _refusals(name, value):
                self._never_holds(name, value, reasons[0])

    def _never_holds(self, name: str, value: Any, why: str) -> NoReturn:
        raise self._error(
            f"the condition {name}={value!r} can never hold", why, "Use a value that it can have.", "when", name
        )

    def _check_keys(self, kind: str) -> None:
        known = ("distribution", "when", *KEYS[kind])
        for key in self.spec:
            if key not in known:
                raise self._error(
                    f"unknown key '{key}'.{suggestion(key, list(known))}",
                    f"A parameter with distribution {kind} has {', '.join(known)}",
                    f"Use one of these keys, and {key}: null where a default has it.",
                    key,
                )
        for key in KEYS[kind]:
            if key not in ("log", "step") and key not in self.spec:
                raise self._error(
                    f"it has no {key}", f"A parameter with distribution {kind} needs one", f"Use {key}: VALUE."
                )

    def _categorical(self) -> Categorical:
        values = self.spec["values"]
        if not values or not isinstance(values, list | Mapping):
            raise self._error(
                f"values={values} is no choice",
                "There has to be at least one value: a list, or a mapping from labels to options",
                "Use values: [A, B], or values: {LABEL: {OPTION: VALUE}}.",
                "values",
            )
        if isinstance(values, list):
            for value in values:
                self._check_option(self.name, value)
            return Categorical({label(value): {self.name: value} for value in values})
        for name, options in values.items():
            self._check_options_of(str(name), options)
        return Categorical({str(name): dict(options) for name, options in values.items()})

    def _check_options_of(self, name: str, options: Any) -> None:
        if not isinstance(options, Mapping):
            raise self._error(
                f"value '{name}' sets {options}, which is no option",
                "In a mapping of values each one says which options it sets",
                "Use values: {LABEL: {OPTION: VALUE}}, or a list of values.",
                "values",
                name,
            )
        for option, value in options.items():
            self._check_option(str(option), value, "values", name, str(option))

    def _number(self, integer: bool) -> Number:
        low, high, log, step = (self.spec.get(key) for key in ("low", "high", "log", "step"))
        for key, bound in (("low", low), ("high", high)):
            if not _is_number(bound, integer):
                kind = "a whole number" if integer else "a number"
                near = round(bound) if _is_number(bound, integer=False) else 1
                raise self._error(f"{key}={bound} is not {kind}", "It bounds the values", f"Use {key}: {near}.", key)
            self._check_option(self.name, bound, key)
        assert isinstance(low, int | float) and isinstance(high, int | float)
        if low > high:
            key = "high" if self.place("high") == COMMAND_LINE else "low"
            mend = f"Use {key}: {low if key == 'high' else high}, or other bounds."
            raise self._error(f"low={low} is more than high={high}", "No value lies between", mend, key)
        self._check_scale(integer, low, high, log, step)
        return Number(low, high, integer, log is True, log == _COMPLEMENT, step)

    def _check_scale(self, integer: bool, low: float, high: float, log: Any, step: Any) -> None:
        if log not in (None, False, True, _COMPLEMENT) or (integer and log == _COMPLEMENT):
            scales = "true or false" if integer else f"true, false or {_COMPLEMENT}"
            raise self._error(f"log={log} is no scale", f"It is {scales}", "Use log: true.", "log")
        if log and step:
            raise self._error(
                f"step={step} does not go with log={log}",
                "Steps are equal, a log scale's are not",
                "Leave one out.",
                "step",
            )
        if (log is True and low <= 0) or (log == _COMPLEMENT and not (low >= 0 and high < 1)):
            raise self._error(
                f"from {low:g} to {high:g} has no logarithm"
                if log is True
                else f"from {low:g} to {high:g} is no share",
                "log: true needs values above 0, log: complement values from 0 to below 1",
                "Use other bounds, or log: false.",
                "log",
            )
        if step is None:
            return
        if isinstance(step, bool) or not isinstance(step, int if integer else int | float) or step <= 0:
            kind = "whole number" if integer else "number"
            raise self._error(f"step={step} is no distance", f"It is a {kind} above 0", "Use step: 1.", "step")
        count = round((high - low) / step)
        if abs(low + count * step - high) > _ROUNDING * step:
            reached = low + math.floor((high - low) / step) * step
            raise self._error(
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
        if not owners(option):
            names = option_names(known)
            raise self._error(
                f"there is no option '{option}'.{suggestion(option, names)}",
                "A parameter sets an option of the run, by its dotted name",
                "Use a name that `isograd train --config` prints, or values that say which options they set.",
                *keys,
            )
        if reasons := _refusals(option, value):
            raise self._error(f"{option}={value}: {reasons[0]}", "No run can have it", "Use another value.", *keys)

    def _error(self, what: str, why: str, mend: str, *keys: str) -> SpaceError:
        return SpaceError(f"{self.place(*keys)}: parameter {self.name}: {what}", why, mend)


def _is_number(value: Any, integer: bool) -> TypeGuard[int | float]:
    kind = int if integer else int | float
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)


def owners(option: str) -> list[Any]:
    """Returns the default configurations that have the option."""
    from isograd.engine.config import RunConfig

    section, _, name = option.partition(".")
    if not name:
        return [RunConfig()] if section in {item.name for item in dataclasses.fields(RunConfig)} else []
    plain = getattr(RunConfig(), section, None)
    candidates = list(groups().get(section, {}).values()) or ([] if plain is None else [plain])
    first, _, inner = name.partition(".")
    return [owner for owner in candidates if _has(owner, first, inner)]


def _refusals(option: str, value: Any) -> list[str]:
    """Returns why no choice that has the option can have this value; none where one can."""
    reasons: list[str] = []
    for owner in owners(option):
        reason = _refusal(owner, option, value)
        if reason is None:
            return []
        reasons.append(reason)
    return reasons


def _has(owner: Any, name: str, inner: str) -> bool:
    """Whether a component has the option; one that is a mapping has any name within."""
    item = {item.name: item for item in dataclasses.fields(owner)}.get(name)
    return item is not None and (not inner or item.default_factory is dict)


def _refusal(owner: Any, option: str, value: Any) -> str | None:
    """Returns why a component cannot have this value, or None."""
    name = option.partition(".")[2] or option
    if "." in name:
        return None
    checks: list[Callable[[], None]] = [
        lambda: _check_type(owner, name, value),
        lambda: check_field(option, next(item for item in dataclasses.fields(owner) if item.name == name), value),
        lambda: check_choice(option, value, CHOICES[option]) if option in CHOICES else None,
        lambda: check_number(option, value, RANGES[option]) if option in RANGES and value is not None else None,
    ]
    for check in checks:
        try:
            check()
        except ConfigError as error:
            return f"{error.what}. {error.why}"
        except OmegaConfBaseException as error:
            return str(error).splitlines()[0]
    return None


def _check_type(owner: Any, name: str, value: Any) -> None:
    """Raises where an option cannot have a value, or has another one in its place: 0.1 for the text "0.1"."""
    had = getattr(typed(owner, {name: value}), name)
    if had != value:
        raise ValidationError(f"{value!r} is of another type than {had!r}")
