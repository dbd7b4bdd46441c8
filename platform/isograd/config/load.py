"""From defaults, presets and overrides to a :class:`~isograd.config.schema.RunConfig`.

The groups of Hydra's configuration are the registries: a plug-in that registers itself can be chosen and overridden
(``method=mine method.weight=2``) without a YAML file. YAML holds the defaults list and the experiment presets.
"""

import copy
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from isograd.config.schema import ExecutorConfig, RunConfig
from isograd.data.datasets import DATASETS
from isograd.errors import ConfigError, UnknownNameError
from isograd.local.method import METHODS
from isograd.local.optimizer import OPTIMIZERS, SCHEDULES
from isograd.models.backbone import MODELS
from isograd.partition.partition import RULES
from isograd.registry import suggestion
from isograd.tasks.task import TASKS

CONF = Path(__file__).parent / "conf"
EXECUTORS = {name: ExecutorConfig(name) for name in ("sequential", "pipelined", "microbatch")}

# Components by type and values: OmegaConf takes milliseconds for each, and a sweep's configurations share most of them.
_SCHEMAS: dict[tuple[type, str], Any] = {}
_TYPED: dict[tuple[tuple[type, str], str], Any] = {}
_MOST_TYPED = 1024

# What changes the numbers of a run; a checkpoint only fits a run that agrees in these.
_NUMERIC = ("seed", "model", "task", "data", "method", "partition", "optimizer", "schedule", "precision", "train")


@dataclasses.dataclass
class TaskConfig:
    """Configuration of a task.

    Attributes:
        label_smoothing: Share of the target's mass spread over all classes.
    """

    name: str = "classification"
    label_smoothing: float = 0.0


def groups() -> dict[str, Mapping[str, Any]]:
    """Returns the groups of the configuration: name of the group -> name of a choice -> its default configuration."""
    return {
        "model": {name: MODELS.get(name).config for name in MODELS},
        "data": {name: DATASETS.get(name) for name in DATASETS},
        "method": {name: METHODS.get(name).Config() for name in METHODS},
        "task": {name: TaskConfig(name) for name in TASKS},
        "partition": {name: RULES.get(name)() for name in RULES},
        "optimizer": {name: OPTIMIZERS.get(name)() for name in OPTIMIZERS},
        "schedule": {name: SCHEDULES.get(name)() for name in SCHEDULES},
        "executor": EXECUTORS,
    }


def experiments() -> list[str]:
    """Returns the names of the presets, for ``experiment=NAME``."""
    return sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


def load(overrides: Iterable[str] = ()) -> RunConfig:
    """Composes a run's configuration from the defaults and the overrides of the command line.

    Raises:
        ConfigError: An option or a choice is unknown, or a value has the wrong type.
    """
    known = groups()
    prepared = [_checked(override, known) for override in overrides]
    _store(known)
    try:
        with initialize_config_dir(version_base=None, config_dir=str(CONF)):
            composed = compose(config_name="config", overrides=[part for parts in prepared for part in parts])
        return from_dict(OmegaConf.to_container(composed, resolve=True))  # pyright: ignore[reportArgumentType]
    except (HydraException, OmegaConfBaseException) as error:
        raise _explained(error, known) from error


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
    made = typed(choices[name], values)
    return typed(ExecutorConfig(), dataclasses.asdict(made)) if group == "executor" else made


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Returns the configuration as plain values; :func:`from_dict` turns it back."""
    return dataclasses.asdict(config)


def fingerprint(config: RunConfig) -> str:
    """Returns a short hash of all that changes a run's numbers: neither executor nor folders are in it."""
    tree = {key: value for key, value in to_dict(config).items() if key in _NUMERIC}
    tree["data"] = {key: value for key, value in tree["data"].items() if key != "path"}
    tree["train"] = {"epochs": tree["train"]["epochs"]}
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:12]


def rounding(config: RunConfig) -> tuple[int, int]:
    """Returns what of the executor changes how a run's sums are rounded: threads, and microbatches (1: whole batches).

    Two runs of one fingerprint come to the same numbers where this is the same, too.
    """
    executor = config.executor
    return executor.threads, executor.num_microbatches if executor.name == "microbatch" else 1


def typed(default: Any, values: dict[str, Any]) -> Any:
    """Returns a component with these values, each of the type that its field declares.

    Args:
        default: The component as it is without them, a dataclass.
        values: By option.

    Raises:
        OmegaConfBaseException: A value cannot be made one of its type, or there is no such option.
    """
    had = dataclasses.asdict(default)
    try:
        schema, text = (type(default), json.dumps(had)), json.dumps(values)
    except TypeError:  # a value that no file holds: left for OmegaConf to judge
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(default), values))
    if (schema, text) not in _TYPED:
        if len(_TYPED) >= _MOST_TYPED:
            _TYPED.clear()
        if schema not in _SCHEMAS:
            _SCHEMAS[schema] = OmegaConf.structured(default)
        other = {name: value for name, value in values.items() if name not in had or not _same(had[name], value)}
        _TYPED[schema, text] = OmegaConf.to_object(OmegaConf.merge(_SCHEMAS[schema], other))
    return copy.deepcopy(_TYPED[schema, text])


def _same(first: Any, second: Any) -> bool:
    return type(first) is type(second) and first == second


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


def _checked(override: str, known: dict[str, Mapping[str, Any]]) -> list[str]:
    """Rejects an unknown choice before Hydra does, and expands ``model=timm/NAME``."""
    key, sign, value = override.partition("=")
    if not sign:
        raise ConfigError(
            f"'{override}' is not an override",
            "Options are given as KEY=VALUE",
            f"Use {override}=VALUE, or `isograd --help`.",
        )
    if key == "model":
        value, more = split_model(value)
        if more:
            return [f"model={value}", *(f"model.{name}={text}" for name, text in more.items())]
    choices = [*experiments(), "null"] if key == "experiment" else list(known.get(key, ()))
    if choices and value not in choices:
        raise UnknownNameError(
            f"unknown {key} '{value}'.{suggestion(value, choices)}",
            f"Known are: {', '.join(choices)}" + (", timm/NAME, torchvision/NAME" if key == "model" else ""),
            f"Use one of these names for {key}.",
        )
    return [f"++{override}" if _is_open(key, known) else override]


def split_model(choice: str) -> tuple[str, dict[str, str]]:
    """Returns the choice of a model, and the options that ``timm/NAME`` stands for."""
    library, _, architecture = choice.partition("/")
    if library in ("timm", "torchvision") and architecture:
        return library, {"architecture": architecture}
    return choice, {}


def _is_open(key: str, known: dict[str, Mapping[str, Any]]) -> bool:
    """Whether an option is a mapping with keys of the user's, which Hydra would refuse as unknown."""
    group, name = (*key.split("."), "")[:2]
    options = [item for choice in known.get(group, {}).values() for item in dataclasses.fields(choice)]
    return any(item.name == name and item.default_factory is dict for item in options)


def _explained(error: Exception, known: dict[str, Mapping[str, Any]]) -> ConfigError:
    causes = [error] if error.__cause__ is None else [error, error.__cause__]
    lines = [str(cause).splitlines()[0].strip(" .") for cause in causes if str(cause)]
    text = ": ".join(dict.fromkeys(lines))
    if lines and lines[0].startswith("In 'experiment/"):
        found = re.search(r"full_key: (\S+)", str(error))
        return ConfigError(
            f"the configuration cannot be composed: {lines[0].split(':')[0].replace('In ', '')} sets "
            f"{found[1] if found else 'an option'}, which is not there",
            "The preset sets an option that another choice on the command line does not have",
            "Use the preset with its own method, model and data, or the options without the preset.",
        )
    key = lines[0].split("'")[1] if lines and "'" in lines[0] else ""
    hint = _owner(key, known) or suggestion(key, option_names(known))
    return ConfigError(
        f"the configuration cannot be composed: {text}.{hint}",
        "An option that nothing reads, or a value of the wrong type, would be ignored silently",
        "Use `isograd train --config` to see every option with its value.",
    )


def _owner(key: str, known: dict[str, Mapping[str, Any]]) -> str:
    """Says which other choice has an option that the present one does not have."""
    group, _, name = key.partition(".")
    owners = [
        choice
        for choice, default in known.get(group, {}).items()
        if name in {item.name for item in dataclasses.fields(default)}
    ]
    return f" It is an option of {' and '.join(f'{group}={owner}' for owner in owners)}" if owners else ""


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
