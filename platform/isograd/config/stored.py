"""Configurations as runs and studies have stored them: what is wrong with one is said in plain words."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from omegaconf.errors import ConfigKeyError, OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from isograd.config.load import groups, with_choices
from isograd.config.typed import typed
from isograd.config.written import as_declared, declared, describe, hints_of, load_yaml
from isograd.engine.config import RunConfig
from isograd.errors import ConfigError
from isograd.system.trouble import unreadable


def read_config(path: Path) -> RunConfig:
    """Reads the ``config.yaml`` of a run; its texts are what is written there, quoted or not.

    Raises:
        ConfigError: There is none, or it is no configuration.
        UnknownNameError: It names a plug-in that is not here.
        MachineError: This user may not read it.
    """
    try:
        tree, written = load_yaml(path)
        _check_choices(tree)
        known, hints = groups(), hints_of(RunConfig)
        for section, value in tree.items():
            choice = known[section].get(value["name"]) if section in known else None
            hint = hints.get(section, Any) if choice is None else type(choice)
            tree[section] = as_declared(section, hint, value, written.get(section))
        return _rebuilt(tree)
    except PermissionError as error:
        raise unreadable(path, error) from error
    except (OSError, YAMLError, ValueError, OmegaConfBaseException) as error:
        raise ConfigError(
            f"{path} is no configuration: {reason(error)}",
            "What a run has trained is known from the options that it was started with",
            "Use a copy of that file as `isograd train` wrote it, or `isograd train` to make the run again.",
        ) from error


def from_stored(tree: Any) -> RunConfig:
    """Rebuilds a configuration from plain values that were stored.

    Raises:
        ValueError: In plain words, which section or option is wrong.
        UnknownNameError: There is no such choice.
    """
    _check_choices(tree)
    return _rebuilt(tree)


def _rebuilt(tree: Mapping[str, Any]) -> RunConfig:
    known = groups()
    rest = {key: value for key, value in tree.items() if key != "experiment" and key not in known}
    with naming_options("", RunConfig(), rest):
        config = typed(RunConfig(), rest)
    for group, choices in known.items():
        values = tree[group]
        with naming_options(f"{group}.", choices.get(values["name"]), values):
            config = with_choices(config, {group: values})
    return config


def check_sections(tree: Any, sections: Iterable[str]) -> None:
    """Raises ValueError where something read from a file is no mapping, or one of its sections is missing or none."""
    if not isinstance(tree, Mapping):
        raise ValueError(f"it holds {_kind(tree)}, where sections were to be")
    for section in sections:
        if section not in tree:
            raise ValueError(f"it has no section '{section}'")
        if not isinstance(tree[section], Mapping):
            raise ValueError(f"the section '{section}' is {_kind(tree[section])}, where options were to be")


def reason(error: Exception) -> str:
    """Returns in plain words why a file could not be read."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f"it is no YAML, in line {error.problem_mark.line + 1} ({error.problem})"
    if isinstance(error, json.JSONDecodeError):
        return f"it is no JSON, in line {error.lineno} ({error.msg})"
    if isinstance(error, UnicodeDecodeError):
        return f"it holds bytes that are no UTF-8, the first at byte {error.start:,}"
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, OSError):
        return str(error.strerror or error)
    return (str(error) or type(error).__name__).splitlines()[0]


def _check_choices(tree: Any) -> None:
    """Raises ValueError where a section is none, or does not say which of its choices it is."""
    known = groups()
    check_sections(tree, known)
    check_sections(tree, [name for name, hint in hints_of(RunConfig).items() if is_dataclass(hint) and name in tree])
    for group in known:
        if not isinstance(tree[group].get("name"), str):
            raise ValueError(f"the section '{group}' has no name, which says what the other options there are of")


@contextmanager
def naming_options(prefix: str, owner: Any, values: Mapping[str, Any]) -> Iterator[None]:
    """Says which option of a component cannot have its value, and what it could be.

    Args:
        prefix: What its options' names begin with.
        owner: The component; None: not known.
        values: By option, as they were stored.

    Raises:
        ValueError: OmegaConf would not take a value.
    """
    try:
        yield
    except OmegaConfBaseException as error:
        option = error.full_key or ""
        if isinstance(error, ConfigKeyError):
            raise ValueError(f"there is no option '{prefix}{option}'") from error
        found, value = None if owner is None else declared(owner, option, {}), values
        for key in option.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        wanted = "a value of its type" if found is None else describe(found.hint)
        raise ValueError(f"{prefix}{option} is {json.dumps(value, default=str)[:80]}, not {wanted}") from error


def _kind(value: Any) -> str:
    return "nothing" if value is None else "a list" if isinstance(value, list) else f"'{str(value)[:40]}'"
