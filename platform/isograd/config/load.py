"""From defaults, presets and overrides to a :class:`~isograd.engine.config.RunConfig`.

The groups of Hydra's configuration are the registries: a plug-in that registers itself can be chosen and overridden
(``method=mine method.weight=2``) without a YAML file. YAML holds the defaults list and the experiment presets.
"""

import copy
import dataclasses
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from isograd.config.items import Item, refuse_several, split_all
from isograd.config.override import option_names, override, set_value
from isograd.config.typed import typed
from isograd.data.dataset import DATASETS
from isograd.engine.config import RunConfig
from isograd.errors import ConfigError, UnknownNameError
from isograd.executors.executor import EXECUTORS
from isograd.local.method import METHODS
from isograd.local.optimizer import LR_SCHEDULES, OPTIMIZERS
from isograd.models.backbone import MODELS
from isograd.partition.partition import RULES
from isograd.registry import suggestion
from isograd.tasks.task import TASKS

CONF = Path(__file__).parent / "conf"


def groups() -> dict[str, Mapping[str, Any]]:
    """Returns the groups of the configuration: name of the group -> name of a choice -> its default configuration."""
    return {
        "model": {name: MODELS.get(name).config for name in MODELS},
        "data": {name: DATASETS.get(name).config for name in DATASETS},
        "method": {name: METHODS.get(name).Config() for name in METHODS},
        "task": {name: TASKS.get(name).Config() for name in TASKS},
        "partition": {name: RULES.get(name)() for name in RULES},
        "optimizer": {name: OPTIMIZERS.get(name)() for name in OPTIMIZERS},
        "lr_schedule": {name: LR_SCHEDULES.get(name)() for name in LR_SCHEDULES},
        "executor": {name: EXECUTORS.get(name).Config() for name in EXECUTORS},
    }


def nameable(known: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns all that may stand before an equals sign: options of any choice, groups, and ``experiment``."""
    return [*option_names(known), *known, "experiment"]


def experiments() -> list[str]:
    """Returns the names of the presets, for ``experiment=NAME``."""
    return sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


def load(overrides: Iterable[str] = (), settings: Mapping[str, Any] = types.MappingProxyType({})) -> RunConfig:
    """Composes a run's configuration from the defaults and the overrides of the command line.

    Hydra composes what was chosen; the values of other options are not for its grammar, but for their own types.

    Args:
        overrides: As ``seed=3``; of several for one option the last one wins.
        settings: Options with their values, as a search space has them; the overrides come after them.

    Raises:
        ConfigError: An option or a choice is unknown, or a value has the wrong type.
    """
    known = groups()
    choices, items = chosen(split_all(overrides, lambda: nameable(known)), known)
    asked, values = chosen([Item(option, str(value)) for option, value in settings.items()], known)
    named = asked | choices
    if named.get("experiment") == "null":
        del named["experiment"]  # no preset, as by default
    config = _composed(named, known)
    for item in values:
        config = set_value(config, item.option, settings.get(item.option, item.text), known)
    return override(config, items, known)


def overridden(config: RunConfig, overrides: Iterable[str]) -> RunConfig:
    """Returns a configuration that was composed before with some items of a command line applied to it.

    Another choice in a group has its own defaults; another executor keeps those options that both have.

    Raises:
        ConfigError: There is no such option or choice, or its value has the wrong type.
    """
    known = groups()
    choices, items = chosen(split_all(overrides, lambda: nameable(known)), known)
    if "experiment" in choices:
        raise ConfigError(
            f"experiment={choices['experiment']} is a preset, which only a new run begins with",
            "It would set what has been trained already",
            "Use isograd train experiment=NAME for another run, or single options here.",
        )
    others = {group: known[group][name] for group, name in choices.items() if getattr(config, group).name != name}
    if "executor" in others:
        others["executor"] = others["executor"].of(config.executor)
    return override(dataclasses.replace(config, **copy.deepcopy(others)), items, known)


def changing(config: RunConfig, overrides: Sequence[str], value: Callable[[RunConfig], Any]) -> list[str]:
    """Returns those overrides that change a value of the configuration: without any of them it would be another one.

    Raises:
        ConfigError: An override does not fit.
    """
    made, found = value(overridden(config, overrides)), []
    if made == value(config):
        return []
    for position, item in enumerate(overrides):
        try:
            others = overridden(config, [*overrides[:position], *overrides[position + 1 :]])
        except ConfigError:  # it is a choice that has the options of another override
            found.append(item)
        else:
            found += [item] if value(others) != made else []
    return found or list(overrides)


def chosen(items: Iterable[Item], known: dict[str, Mapping[str, Any]]) -> tuple[dict[str, str], list[Item]]:
    """Tells choices from options.

    Returns:
        The choices by their groups, checked, and the items of options; ``model=timm/NAME`` is both.

    Raises:
        UnknownNameError: There is no such choice.
    """
    choices: dict[str, str] = {}
    others: list[Item] = []
    for item in items:
        if item.option != "experiment" and item.option not in known:
            others.append(item)
            continue
        choices[item.option], more = split_model(item.text) if item.option == "model" else (item.text, {})
        others += [Item(f"{item.option}.{name}", text) for name, text in more.items()]
        _check_choice(item.option, choices[item.option], known)
    return choices, others


def _composed(choices: Mapping[str, str], known: dict[str, Mapping[str, Any]]) -> RunConfig:
    """Lets Hydra compose the choices."""
    _store(known)
    try:
        with initialize_config_dir(version_base=None, config_dir=str(CONF)):
            found = compose(config_name="config", overrides=[f"{group}={name}" for group, name in choices.items()])
        return from_dict(OmegaConf.to_container(found, resolve=True))  # pyright: ignore[reportArgumentType]
    except (HydraException, OmegaConfBaseException) as error:
        raise _explained(error) from error


def from_dict(tree: dict[str, Any]) -> RunConfig:
    """Rebuilds a configuration from plain values, such as a run folder's ``config.yaml``."""
    known = groups()
    rest = {key: value for key, value in tree.items() if key != "experiment" and key not in known}
    return with_choices(typed(RunConfig(), rest), {group: tree[group] for group in known})


def with_choices(config: RunConfig, tree: Mapping[str, dict[str, Any]]) -> RunConfig:
    """Returns the configuration with other choices in some groups, from plain values.

    Args:
        config: What the others come from.
        tree: Group -> its choice's options; ``name`` says which.

    Raises:
        UnknownNameError: There is no such choice.
    """
    known = groups()
    return dataclasses.replace(config, **{group: _choice(group, known[group], tree[group]) for group in tree})


def _choice(group: str, choices: Mapping[str, Any], values: dict[str, Any]) -> Any:
    name = values["name"]
    if name not in choices:
        raise UnknownNameError(
            f"unknown {group} '{name}'.{suggestion(name, list(choices))}",
            f"Known are: {', '.join(choices)}",
            f"Use one of these names for {group}.",
        )
    return typed(choices[name], values)


_STORED: dict[tuple[str, str], Any] = {}


def _store(known: dict[str, Mapping[str, Any]]) -> None:
    """Hands Hydra what it does not have yet, or has otherwise: a third of the time that a configuration takes."""
    store = ConfigStore.instance()
    if not _STORED:
        store.store(name="schema", node=RunConfig)
    for group, choices in known.items():
        for name, node in choices.items():
            stored = _STORED.get((group, name))
            if type(stored) is not type(node) or stored != node:
                store.store(group=group, name=name, node=node)
                _STORED[group, name] = copy.deepcopy(node)


def _check_choice(group: str, name: str, known: dict[str, Mapping[str, Any]]) -> None:
    choices = [*experiments(), "null"] if group == "experiment" else list(known[group])
    if name in choices:
        return
    if "," in name:
        refuse_several(group, name, name.split(","))
    from isograd.prepare.originals import SOURCES

    if group == "data" and name in SOURCES:
        raise UnknownNameError(
            f"data={name} is no data set to train on",
            "Its files are made into Parquet first",
            f"Use `isograd prepare {name} --root ROOT --output FOLDER`, and then data=parquet data.path=FOLDER.",
        )
    raise UnknownNameError(
        f"unknown {group} '{name}'.{suggestion(name, choices)}",
        f"Known are: {', '.join(choices)}" + (", timm/NAME, torchvision/NAME" if group == "model" else ""),
        f"Use one of these names for {group}.",
    )


def split_model(choice: str) -> tuple[str, dict[str, str]]:
    """Returns the choice of a model, and the options that ``timm/NAME`` stands for."""
    library, _, architecture = choice.partition("/")
    if library in ("timm", "torchvision") and architecture:
        return library, {"architecture": architecture}
    return choice, {}


def _explained(error: Exception) -> ConfigError:
    """Says what Hydra could not compose: choices are checked before, so it is a preset beside them."""
    causes = [error] if error.__cause__ is None else [error, error.__cause__]
    lines = [str(cause).splitlines()[0].strip(" .") for cause in causes if str(cause)]
    if lines and lines[0].startswith("In 'experiment/"):
        found = re.search(r"full_key: (\S+)", str(error))
        return ConfigError(
            f"the configuration cannot be composed: {lines[0].split(':')[0].replace('In ', '')} sets "
            f"{found[1] if found else 'an option'}, which is not there",
            "The preset sets an option that another choice on the command line does not have",
            "Use the preset with its own method, model and data, or the options without the preset.",
        )
    return ConfigError(
        f"the configuration cannot be composed: {': '.join(dict.fromkeys(lines))}",
        "Defaults, preset and choices have to go together",
        "Use `isograd train --config` to see every option with its value.",
    )
