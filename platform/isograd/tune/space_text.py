"""What is written in a search space: its texts as they are, and what a command line changes in it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from isograd.config.load import groups
from isograd.config.written import as_declared, declared, from_command_line, written_key
from isograd.errors import SpaceError
from isograd.tune.parameters import owners

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
        labels = set(_labelled((), tree[_SECTION]))
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
        ConfigError: The value cannot be read.
    """
    sign = override[: len(override) - len(override.lstrip("+~"))]
    name, equals, text = override[len(sign) :].partition("=")
    *outer, last = path = (_SECTION, *name.split("."))
    if not sign.startswith("+") and not _has(space, path):
        raise SpaceError(
            f"space.{name} is not there, so it cannot be {'taken away' if sign else 'changed'}",
            f"The space has the parameters {', '.join(map(str, space.get(_SECTION) or {}))}",
            f"Leave ~space.{name} out."
            if sign
            else f"Use a name that `isograd tune SPACE --config` shows, or to add it use +space.{name}={text}.",
        )
    if "~" in sign:
        del _select(space, outer)[last]
        _select(written, outer).pop(last, None)
        return
    if not equals or not text:
        raise SpaceError(
            f"{sign}space.{name} has no value",
            "What is changed in a space is given as NAME.KEY=VALUE",
            f"Use {sign}space.{name}=VALUE, or ~space.{name} to take it away.",
        )
    value = from_command_line(f"space.{name}", list[Any], text)
    OmegaConf.update(space, ".".join(path), value, merge=True, force_add=True)
    for key in outer:
        written = written.setdefault(key, {}) if isinstance(written.get(key, {}), dict) else {}
    written[last] = _texts(text)


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


def _labelled(path: tuple[str, ...], tree: Any) -> Any:
    """Yields the names of parameters whose values have labels, which are texts."""
    if not isinstance(tree, Mapping):
        return
    if "distribution" in tree:
        if isinstance(tree.get("values"), Mapping):
            yield ".".join(path)
        return
    for key, inner in tree.items():
        yield from _labelled((*path, str(key)), inner)


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
