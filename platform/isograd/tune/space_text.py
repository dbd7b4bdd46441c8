"""What is written in a search space: its texts as they are, and what a command line changes in it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from isograd.config.items import as_typed, split
from isograd.config.load import groups
from isograd.config.written import as_declared, declared, from_command_line, written_key
from isograd.errors import SpaceError
from isograd.registry import closest
from isograd.tune.parameters import KEYS, owners

_SECTION = "parameters"


def as_written(tree: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a composed space with the texts that its files hold: of options that are texts, and of labels.

    Args:
        tree: The space, as YAML is read.
        written: The same with every scalar as it was written.

    Raises:
        ConfigError: A text holds an interpolation.
    """
    found = dict(tree)
    if isinstance(tree.get("options"), Mapping):
        found["options"] = _settings(tree["options"], written.get("options"))
    if isinstance(tree.get(_SECTION), Mapping):
        labels = {name for name, spec in _leaves((), tree[_SECTION]) if isinstance(spec.get("values"), Mapping)}
        found[_SECTION] = _parameters((), tree[_SECTION], written.get(_SECTION), labels)
    return found


def change(space: DictConfig, written: dict[str, Any], override: str) -> None:
    """Changes a composed space as an item of a command line says.

    Args:
        space: As it was composed.
        written: The same with every scalar as it was written.
        override: ``NAME.KEY=VALUE``, ``+NAME.KEY=VALUE`` for a new one, or ``~NAME``.

    Raises:
        SpaceError: There is no such entry.
        ConfigError: There is no value, or it cannot be read.
    """
    sign = override[: len(override) - len(override.lstrip("+~"))]
    name, _, text = override[len(sign) :].partition("=")
    if "~" not in sign:
        split(f"space.{override[len(sign) :]}", names=lambda: [f"space.{key}" for key in _keys(space)])
    *outer, last = path = (_SECTION, *name.split("."))
    if not sign.startswith("+") and not _has(space, path):
        raise _missing(space, name, None if sign else text)
    if "~" in sign:
        del _select(space, outer)[last]
        _select(written, outer).pop(last, None)
        return
    value = from_command_line(f"space.{name}", list[Any], text)
    OmegaConf.update(space, ".".join(path), value, merge=True, force_add=True)
    for key in outer:
        written = written.setdefault(key, {}) if isinstance(written.get(key, {}), dict) else {}
    written[last] = _texts(text)


def _missing(space: DictConfig, name: str, text: str | None) -> SpaceError:
    """Says what is there instead of an entry; ``text``: what it was to be, None where it was to be taken away."""
    known = dict(_leaves((), space.get(_SECTION) or {}))
    parameter = next((other for other in known if name.startswith(f"{other}.")), None)
    near, _, key = name.rpartition(".")
    near = closest(near, known) if near and parameter is None else parameter
    whole = closest(name, known)
    if text is None:
        mend = f"Use ~space.{whole}, or leave ~space.{name} out." if whole else f"Leave ~space.{name} out."
    elif parameter is not None:
        key = name.removeprefix(f"{parameter}.")
        allowed = ("when", *KEYS.get(str(known[parameter]["distribution"]), ()))
        like = closest(key, allowed)
        sign = "" if like in known[parameter] else "+"
        entry = as_typed(f"{sign}space.{parameter}.{like}", text)
        mend = f"Use {entry}." if like else f"Use one of its keys: {', '.join(allowed)}."
    elif near is not None and key in known[near]:
        mend = f"Use {as_typed(f'space.{near}.{key}', text)}."
    elif owners(name) and text.startswith("{"):
        mend = f"Use {as_typed(f'+space.{name}', text)} to add it."
    else:
        mend = (
            "Use one of these, with its keys as `isograd tune SPACE --config` shows them, or to add one "
            "+space.OPTION={distribution: float, low: LOW, high: HIGH} with an option of the run."
        )
    return SpaceError(
        f"space.{name} is not there, so it cannot be {'taken away' if text is None else 'changed'}",
        f"The space has the parameters {', '.join(known)}",
        mend,
    )


def _leaves(path: tuple[str, ...], tree: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the parameters by their names."""
    if isinstance(tree, Mapping | DictConfig):
        if "distribution" in tree:
            yield ".".join(path), tree  # pyright: ignore[reportReturnType]
            return
        for key, inner in tree.items():
            yield from _leaves((*path, str(key)), inner)


def _keys(space: DictConfig) -> list[str]:
    return [f"{name}.{key}" for name, spec in _leaves((), space.get(_SECTION) or {}) for key in spec]


def _texts(text: str) -> Any:
    try:
        return yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError:
        return None


def _has(space: Any, path: tuple[str, ...]) -> bool:
    inner = _select(space, path[:-1])
    return isinstance(inner, Mapping | DictConfig) and path[-1] in inner


def _select(tree: Any, path: Sequence[str]) -> Any:
    for key in path:
        tree = tree.get(key, {}) if isinstance(tree, Mapping | DictConfig) else {}
    return tree


def _parameters(path: tuple[str, ...], tree: Any, written: Any, labels: set[str]) -> Any:
    if not isinstance(tree, Mapping):
        return tree
    if "distribution" not in tree:
        return {key: _parameters((*path, str(key)), value, _inner(written, key), labels) for key, value in tree.items()}
    found, name = dict(tree), ".".join(path)
    values, when = tree.get("values"), tree.get("when")
    if isinstance(values, list):
        found["values"] = _each(name, values, _inner(written, "values"))
    elif isinstance(values, Mapping):
        texts = _inner(written, "values")
        found["values"] = {_key(texts, label): _settings(values[label], _inner(texts, label)) for label in values}
    if isinstance(when, Mapping):
        texts = _inner(written, "when")
        found["when"] = {_key(texts, key): _condition(str(key), when[key], _inner(texts, key), labels) for key in when}
    return found


def _condition(name: str, value: Any, written: Any, labels: set[str]) -> Any:
    made: Callable[[Any, Any], Any] = lambda value, text: _option(name, value, text)  # noqa: E731
    if name in labels:
        made = lambda value, text: text if isinstance(text, str) else str(value)  # noqa: E731
    if not isinstance(value, list):
        return made(value, written)
    return [made(*pair) for pair in zip(value, _list(written, len(value)), strict=True)]


def _each(name: str, values: list[Any], written: Any) -> list[Any]:
    return [_option(name, value, text) for value, text in zip(values, _list(written, len(values)), strict=True)]


def _settings(options: Any, written: Any) -> Any:
    if not isinstance(options, Mapping):
        return options
    return {str(name): _option(str(name), value, _inner(written, name)) for name, value in options.items()}


def _option(option: str, value: Any, written: Any) -> Any:
    """Returns an option's value, exactly as it was written where any choice that has the option declares a text."""
    known = groups()
    if option in known:
        return written if isinstance(written, str) and value is not None else value
    section, _, name = option.partition(".")
    for owner in owners(option):
        found = declared(owner, name or option, known.get(section, {}))
        made = value if found is None else as_declared(option, found.hint, value, written)
        if made is not value and made != value:
            return made
    return value


def _inner(written: Any, key: Any) -> Any:
    return written.get(written_key(written, key)) if isinstance(written, Mapping) else None


def _key(written: Any, key: Any) -> str:
    return written_key(written, key) if isinstance(written, Mapping) else str(key)


def _list(written: Any, count: int) -> list[Any]:
    return written if isinstance(written, list) and len(written) == count else [None] * count
