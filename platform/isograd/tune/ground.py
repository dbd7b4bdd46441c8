"""The configuration that a search changes: from settings to the configuration of a run."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from isograd.config.load import from_dict, groups, split_model, with_choices
from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig, flatten, hold_out, to_dict
from isograd.errors import ConfigError
from isograd.tune.space import Ground, Settings

_NETWORK = ("model", "task", "data")  # what a backbone is built by


def make_ground(config: RunConfig) -> Ground:
    """Returns what a search space stands on when it changes ``config``; it remembers what it was asked."""
    answers: dict[str, Any] = {}

    def ask(sections: tuple[str, ...], settings: Settings, answer: Callable[[Blueprint], Any]) -> Any:
        relevant = {name: value for name, value in settings.items() if name.partition(".")[0] in sections}
        key = json.dumps([sections, relevant], sort_keys=True)
        if key not in answers:
            answers[key] = answer(Blueprint(change_config(config, relevant)))
        return answers[key]

    return Ground(
        options=flatten_options(config),
        num_modules_with=lambda settings: ask(
            (*_NETWORK, "partition", "method"), settings, lambda run: run.num_modules
        ),
        unit_names_with=lambda settings: ask(
            _NETWORK, settings, lambda run: tuple(unit.name for unit in run.backbone.units)
        ),
    )


def flatten_options(config: RunConfig) -> dict[str, Any]:
    """Returns all options by dotted names; a group's own name leads to the name of its choice."""
    tree = to_dict(config)
    return dict(flatten(tree)) | {group: tree[group]["name"] for group in groups()}


def change_config(config: RunConfig, settings: Settings) -> RunConfig:
    """Returns the configuration with some settings changed, as if they had been given to `isograd train`.

    Of other data, the same share is held out as of the configuration's: trials are judged on it.

    Raises:
        ConfigError: There is no such option or choice, or its value has the wrong type.
    """
    known = groups()
    sections = {name.partition(".")[0] for name in settings}
    only_choices = sections <= known.keys()  # nearly always, and most of them stay: a tenth of the time
    tree = {name: dataclasses.asdict(getattr(config, name)) for name in sections} if only_choices else to_dict(config)
    for name in settings.keys() & known.keys():
        _choose(tree, known, name, settings[name])
    for name, value in settings.items():
        if name not in known:
            _set(tree, name, value)
    try:
        changed = with_choices(config, tree) if only_choices else from_dict(tree)
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"{', '.join(f'{name}={value}' for name, value in settings.items())} is no configuration: "
            f"{str(error).splitlines()[0]}",
            "A value has the wrong type for its option",
            "Use values as `isograd train --config` shows them.",
        ) from error
    return changed if config.data.valid is None else hold_out(changed, config.data.valid)


def _choose(tree: dict[str, Any], known: Mapping[str, Mapping[str, Any]], group: str, choice: str) -> None:
    choice, more = split_model(choice) if group == "model" else (choice, {})
    if choice not in known[group]:
        with_choices(RunConfig(), {group: {"name": choice}})  # says which there are
    if tree[group]["name"] != choice or more:
        tree[group] = dataclasses.asdict(known[group][choice]) | more


def _set(tree: dict[str, Any], name: str, value: Any) -> None:
    *path, last = name.split(".")
    inner: Any = tree
    for key in path:
        inner = inner.get(key) if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or (last not in inner and len(path) < 2):
        section = name.partition(".")[0]
        choice = tree.get(section, {})
        raise ConfigError(
            f"{name}={value} cannot be set: {section}={choice.get('name') if isinstance(choice, dict) else choice} "
            "has no such option",
            "A value that nothing reads would be searched for nothing",
            "Use a condition on the choice that has the option, or another choice.",
        )
    inner[last] = value
