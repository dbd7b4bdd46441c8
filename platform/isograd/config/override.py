"""Options of a composed configuration, set by their dotted names to what was typed, or to a value."""

import copy
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from isograd.config.items import Item
from isograd.config.typed import typed
from isograd.config.written import Declared, declared, describe, example, from_command_line
from isograd.engine.config import RunConfig
from isograd.errors import ConfigError
from isograd.registry import closest

Groups = Mapping[str, Mapping[str, Any]]  # group -> name of a choice -> its default configuration


def override(config: RunConfig, items: Iterable[Item], known: Groups) -> RunConfig:
    """Returns the configuration with options set to what was typed for them.

    Args:
        config: What is changed.
        items: Of options, not of choices.
        known: See :func:`groups`.

    Raises:
        ConfigError: There is no such option, or it cannot have that value.
    """
    # Mappings come last, and keys within them: whose options they hold may be said by another item.
    changed = config
    for item in sorted(items, key=lambda item: item.option.count(".") > 1 or item.text.startswith("{")):
        found = declared_in(changed, item.option, known)
        value = from_command_line(item.option, found.hint, item.text)
        changed = set_value(changed, item.option, value, known, text=item.text, unset=config)
    return changed


def set_value(
    config: RunConfig,
    option: str,
    value: Any,
    known: Groups,
    *,
    text: str | None = None,
    unset: RunConfig | None = None,
) -> RunConfig:
    """Returns the configuration with another value of an option, made one of its type.

    Args:
        config: What is changed.
        option: Its dotted name.
        value: Of it.
        known: The groups.
        text: What was written for the value, to say so where it is none.
        unset: The configuration before any option was set, to say what it is otherwise; None: ``config``.

    Raises:
        ConfigError: There is no such option, or it cannot have that value.
    """
    found = declared_in(config, option, known)
    section, owner = _owner(config, option)
    *outer, last = found.path
    values = {outer[0]: copy.deepcopy(getattr(owner, outer[0]))} if outer else {}
    inner: dict[str, Any] = values
    for key in outer:
        inner[key] = inner[key] if isinstance(inner.get(key), dict) else {}
        inner = inner[key]
    inner[last] = value
    try:
        made = typed(owner, values)
    except OmegaConfBaseException as error:
        text = str(value) if text is None else text
        _, default = _owner(config if unset is None else unset, option)
        raise ConfigError(
            f"{option}={text} is not {describe(found.hint)} ({str(error).splitlines()[0].strip(' .')})",
            f"It is {getattr(default, found.path[0])} unless it is set",
            f"Use {option}={example(found.hint, text)}, for example; `isograd train --config` shows every option with "
            "its value.",
        ) from error
    return made if section is None else dataclasses.replace(config, **{section: made})


def declared_in(config: RunConfig, option: str, known: Groups) -> Declared:
    """Returns what is declared about an option. Raises ConfigError where the configuration has none of that name."""
    section, owner = _owner(config, option)
    name = option if section is None else option.partition(".")[2]
    found = declared(owner, name, known.get(section or "", {})) if name else None
    if found is None or (section is None and found.path[0] in _sections()):
        raise _unknown(option, config, known)
    return found


def option_names(known: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns the dotted names of all options of all choices."""
    plain = [
        f"{section.name}.{item.name}"
        for section in dataclasses.fields(RunConfig)
        if dataclasses.is_dataclass(section.type)
        for item in dataclasses.fields(section.type)
    ]
    chosen = [
        f"{group}.{item.name}"
        for group, choices in known.items()
        for choice in choices.values()
        for item in dataclasses.fields(choice)
    ]
    return sorted({*plain, *chosen, *(item.name for item in dataclasses.fields(RunConfig))})


def _unknown(option: str, config: RunConfig, known: Groups) -> ConfigError:
    """Says what an option that is not there may have been meant for, or what else its section has."""
    section, owner = _owner(config, option)
    inside = [] if section is None else [f"{section}.{item.name}" for item in dataclasses.fields(owner)]
    has = f"With these choices {section} has the options {', '.join(inside)}"
    if option == section:
        return ConfigError(f"{option} is a section, not an option", has, f"Use {inside[0]}=VALUE, for example.")
    near = option if _owners(option, config, known) else closest(option, [*option_names(known), *known])
    owners = _owners(near, config, known) if near else []
    hint = f" Did you mean '{near}'?" if near and near != option else ""
    hint += f" It is an option of {' and '.join(owners)}." if owners else ""
    return ConfigError(
        f"there is no option '{option}'.{hint}",
        has if inside and not hint else "A value that nothing reads would be ignored",
        _mend_unknown(near, owners),
    )


def _mend_unknown(near: str | None, owners: Sequence[str]) -> str:
    if len(owners) == 1:
        return f"Use {owners[0]} {near}=VALUE, for example."
    if owners:
        return f"Use one of these {len(owners)}, or leave {near} out."
    return "Use `isograd train --config` to see every option with its value."


def _owners(option: str, config: RunConfig, known: Groups) -> list[str]:
    """Returns the other choices that have an option which the present one does not have."""
    group, name = (*option.split("."), "")[:2]
    owners = [f"{group}={choice}" for choice, default in known.get(group, {}).items() if name in _names(default)]
    return [] if not owners or name in _names(getattr(config, group)) else owners


def _names(owner: Any) -> set[str]:
    return {item.name for item in dataclasses.fields(owner)}


def _sections() -> set[str]:
    """Returns the fields of a run that have options of their own."""
    return {item.name for item in dataclasses.fields(RunConfig) if item.type not in (int, str, str | None)}


def _owner(config: RunConfig, option: str) -> tuple[str | None, Any]:
    """Returns the section that an option belongs to, with its component; None: the run itself."""
    section = option.partition(".")[0]
    return (section, getattr(config, section)) if section in _sections() else (None, config)
