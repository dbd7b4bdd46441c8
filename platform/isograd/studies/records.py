"""Finished runs as records, from their folders, and which of them belong together."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isograd.config.stored import read_config
from isograd.data.identity import Identity, data_in
from isograd.engine.config import RunConfig, flatten, to_dict
from isograd.errors import ConfigError
from isograd.run.folder import RunFolder
from isograd.run.record import RunRecord
from isograd.run.stored_record import read_record
from isograd.system.trouble import check_readable

# What runs of one entry may differ in: it changes neither what was trained nor how fast.
_PASSED_OVER = ("seed", "folder", "run_name", "checkpoint", "cluster")


@dataclass(frozen=True)
class FinishedRun:
    """What a comparison needs of one run: what was asked for, and what it came to.

    Attributes:
        folder: Where it lies, or the trial that it is of.
        data: What it trained on; None where that is not known.
    """

    folder: Path
    config: RunConfig
    record: RunRecord
    data: Identity | None = None

    @property
    def seed(self) -> int:
        """What runs of different entries are paired by."""
        return self.config.seed

    @property
    def devices(self) -> list[str]:
        """Where each stage computed."""
        return [stage["device"] for stage in self.record.stages]


def is_finished(path: Path) -> bool:
    """Whether ``path`` is the folder of a run that came to its end.

    Raises:
        MachineError: This user may not read the folder.
    """
    folder = RunFolder(path)
    # os.path, because an item of a command line can be too long for a file's name, which is no error but an answer
    check_readable(path, folder.config)
    return os.path.isfile(folder.result) and os.path.isfile(folder.config)


def read_run(path: Path) -> FinishedRun:
    """Reads a finished run.

    Raises:
        ConfigError: Its configuration is missing, damaged or of another version.
        RunFolderError: So is its result.
        MachineError: This user may not read it.
        UnknownNameError: The run used a plug-in that is not here.
    """
    folder = RunFolder(path)
    return FinishedRun(path, read_config(folder.config), read_record(path), _read_data(folder))


def _read_data(folder: RunFolder) -> Identity | None:
    """Returns what a run trained on, the same all the way; None where that cannot be read."""
    try:
        return data_in(json.loads(folder.provenance.read_text()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def list_options(config: RunConfig) -> dict[str, Any]:
    """Returns what defines a run apart from its seed, by dotted names such as ``partition.num_modules``."""
    tree = {key: value for key, value in to_dict(config).items() if key not in _PASSED_OVER}
    return {name: value for name, value in flatten(tree) if not isinstance(value, dict)}


def list_differences(configs: Sequence[RunConfig]) -> list[str]:
    """Returns the names of the options in which configurations differ."""
    options = [list_options(config) for config in configs]
    names = dict.fromkeys(name for each in options for name in each)
    return [name for name in names if any(each.get(name) != options[0].get(name) for each in options)]


def group_by_config(runs: Iterable[FinishedRun]) -> dict[str, list[FinishedRun]]:
    """Returns label -> the runs that differ in their seeds only, in the order in which they come.

    The label is the method's name; where one method occurs in several configurations, what they differ in follows.

    Raises:
        ConfigError: Two runs of one configuration have the same seed, or were trained on different data.
    """
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        groups.setdefault(json.dumps(list_options(run.config), sort_keys=True), []).append(run)
    for group in groups.values():
        _check_seeds(group)
        check_one_data_set(group)
    configs = [group[0].config for group in groups.values()]
    return {_label(group[0].config, configs): group for group in groups.values()}


def _label(config: RunConfig, configs: Sequence[RunConfig]) -> str:
    kin = [other for other in configs if other.method.name == config.method.name]
    own = list_options(config)
    values = {name: own[name] for name in list_differences(kin) if name in own}
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        for name, value in values.items()
    }
    return " ".join([config.method.name, *(f"{name}={text}" for name, text in texts.items())])


def check_one_data_set(runs: Sequence[FinishedRun]) -> None:
    """Raises ConfigError where runs that are to be averaged were trained on different data."""
    known = [run for run in runs if run.data is not None]
    for run in known:
        if run.data != known[0].data:
            raise ConfigError(
                f"the runs {known[0].folder} and {run.folder} have the same configuration, but other data: "
                f"{known[0].data}; and {run.data}",
                "The data changed between them, and their mean would be of neither",
                "Use runs on the same data only: leave one of the two out, or train it again.",
            )


def _check_seeds(runs: Sequence[FinishedRun]) -> None:
    by_seed: dict[int, FinishedRun] = {}
    for run in runs:
        other = by_seed.setdefault(run.seed, run)
        if other is not run:
            raise ConfigError(
                f"the runs {other.folder} and {run.folder} have the same configuration and both seed {run.seed}",
                "Entries are paired by seed, so a seed counts once in each",
                "Use only one of the two folders.",
            )
