"""What `isograd tune` is asked for: a space, how it is searched, and the runs that both are about."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from isograd.config.items import split_all
from isograd.config.load import changing, load, overridden
from isograd.config.stored import check_sections, from_stored, naming_options, reason
from isograd.config.typed import typed
from isograd.data.dataset import dataset_of
from isograd.display.measures import Measure, measures_of
from isograd.engine.blueprint import task_of
from isograd.engine.config import RunConfig, hold_out, rounding, to_dict
from isograd.errors import ConfigError, SpaceError, StudyError
from isograd.options import check_not_set
from isograd.run.experiment import count_epochs
from isograd.system.files import write_atomically
from isograd.system.passwords import hide_password
from isograd.system.paths import user_path
from isograd.system.trouble import check_readable, unreadable
from isograd.tasks.task import Score
from isograd.tune.judge import SPLIT
from isograd.tune.space import Parameter
from isograd.tune.space_file import SpaceFile, load_space
from isograd.tune.storage import absolute_url
from isograd.tune.sweep_config import SweepConfig, make_sweep_config

_SWEEP, _SPACE = "sweep.json", "space.yaml"
_FORMAT = 2  # of sweep.json
_SET_HERE = {
    "seed": "tune.seeds=[0,1,2]",
    "folder": "tune.folder=DIR",
    "run_name": "tune.name=NAME",
}
_STEPS = {"train.max_steps": "train.epochs=N, or train.max_steps=N with lr_schedule=cosine_steps"}
# What the space's parameters cannot set, besides: a sweep's trials share it, or have it by themselves.
_SHARED = {
    "train.epochs": "train.epochs=N",
    "data.valid": "data.valid=0.1",
    "cluster": "cluster.OPTION=VALUE",
    "checkpoint": "checkpoint.OPTION=VALUE",
}
# Where and how fast runs are made: a study may go on elsewhere, and its values stay comparable.
_MOVABLE = ("executor", "cluster", "checkpoint")
_DATA_PATH = "data.path"  # data that moved is the same data; see Request.identity
_PASSED_OVER = ("seed", "folder", "run_name", *_MOVABLE)


@dataclass(frozen=True)
class Request:
    """A sweep as it is asked for.

    Attributes:
        items: The command line's, for the record.
        file: The search space.
        sweep: How it is searched.
        base: The configuration that the space changes.
        name: Of the study.
        folder: Of the study.
    """

    items: tuple[str, ...]
    file: SpaceFile
    sweep: SweepConfig
    base: RunConfig
    name: str
    folder: Path

    @cached_property
    def score(self) -> Score:
        """By what the task of the trials judges them."""
        return task_of(self.base).score

    @cached_property
    def measures(self) -> Mapping[str, Measure]:
        """How the metrics of a trial are written, and which values are better."""
        return measures_of(self.score, SPLIT)

    @cached_property
    def num_epochs(self) -> int:
        """Of a trial that is not stopped early. Raises DataError where its data, which may decide that, is missing."""
        return count_epochs(self.base)

    @property
    def objectives(self) -> dict[str, Measure]:
        """By which of these trials are compared."""
        return {name: self.measures[name] for name in self.sweep.objectives}

    def trial_folder(self, number: int) -> Path:
        """Returns where a trial's runs are."""
        return self.folder / "trials" / f"{number:04d}"

    def to_yaml(self) -> str:
        """Returns the sweep's options, what is held out, and the space, as YAML to be shown without a password."""
        sweep = {key: value for key, value in dataclasses.asdict(self.sweep).items() if key != "name"}
        sweep["storage"] = self.sweep.storage and hide_password(self.sweep.storage)
        options = {**self.file.options, "data.valid": self.base.data.valid}
        shown = {"tune": {"name": self.name, **sweep}, **self.file.tree, "options": options}
        return OmegaConf.to_yaml(OmegaConf.create(shown))

    def identity(self) -> dict[str, Any]:
        """Returns what all trials of a study share; with another one, their values could not be compared.

        Raises:
            DataError: The data is not there.
        """
        base = {key: value for key, value in to_dict(self.base).items() if key not in _PASSED_OVER}
        base["data"] = {key: value for key, value in base["data"].items() if key != "path"}
        shared = {
            "space": self.file.space.to_json(),
            "run": base,
            "data": dataset_of(self.base.data).identify().to_json(),
            "seeds": self.sweep.seeds,
            "objectives": self.sweep.objectives,
        }
        return json.loads(json.dumps(shared))


def parse(space: str, items: Sequence[str]) -> Request:
    """Sorts the items of a command line, and composes what they ask for.

    Args:
        space: Name or path of the search space.
        items: ``tune.OPTION=VALUE`` for the sweep, ``space.PARAMETER.KEY=VALUE`` for the space, others for every run:
            what they set is not searched.

    Raises:
        ConfigError: An item is malformed, or cannot be set here.
    """
    names = [f"tune.{item.name}" for item in dataclasses.fields(SweepConfig)]
    of_sweep = split_all((item for item in items if item.lstrip("+~").startswith("tune.")), lambda: names)
    of_space = [item.replace("space.", "", 1) for item in items if item.lstrip("+~").startswith("space.")]
    of_runs = [item for item in items if not item.lstrip("+~").startswith(("tune.", "space."))]
    for item in of_runs:
        check_not_set(item, "a sweep", _SET_HERE)
    sweep = make_sweep_config(of_sweep)
    file = load_space(space, of_space)
    options = {_option_of(item) for item in of_runs}
    fixed = [parameter.name for parameter in file.space.parameters if _is_set(parameter, options)]
    if fixed:
        file = load_space(space, [*of_space, *(f"~{name}" for name in fixed)])
    _check_shared(file)
    base = hold_out(load(of_runs, file.options))
    for item in () if base.lr_schedule.by_step else of_runs:
        check_not_set(item, "a sweep", _STEPS)
    _check_validates(base)
    name = sweep.name or f"{file.name}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"
    folder = user_path(sweep.folder).absolute() / name
    sweep = dataclasses.replace(sweep, name=name, storage=sweep.storage and absolute_url(sweep.storage))
    return Request(tuple(items), file, sweep, base, name, folder)


def _option_of(item: str) -> str:
    return item.lstrip("+~").partition("=")[0]


def _is_set(parameter: Parameter, options: set[str]) -> bool:
    """Whether a command line sets what a parameter would search; the cuts, by the partition's own choice as well."""
    cuts_are_set = parameter.name == "partition.ends" and "partition" in options
    return cuts_are_set or not options.isdisjoint({parameter.name, *parameter.sets})


def _check_validates(base: RunConfig) -> None:
    if base.data.valid == 0:
        raise ConfigError(
            "data.valid=0 leaves the trials no validation split",
            "One of them is chosen by its score there: what is chosen by the test split has no test left",
            "Leave data.valid out for a tenth of the training split, or use data.valid=0.2, for example.",
        )


def _check_shared(file: SpaceFile) -> None:
    """Raises SpaceError for a space that sets what a sweep sets by itself."""
    set_by = [(option, file.lines.at("options", option), _STEPS | _SET_HERE) for option in file.options]
    for parameter in file.space.parameters:
        set_by += [(option, file.place(parameter.name), _STEPS | _SHARED | _SET_HERE) for option in parameter.sets]
    for option, place, instead in set_by:
        for name, mend in instead.items():
            if option == name or (name in _SHARED and option.startswith(f"{name}.")):
                raise SpaceError(
                    f"{place}: {option} cannot be set in a space",
                    "Trials share their length and where they run, and each has seeds and a folder of its own",
                    f"Use {mend} on the command line.",
                )


def move_request(request: Request, overrides: Sequence[str]) -> Request:
    """Returns the request with other options of executor, cluster and checkpoints, or with another place of the data.

    Args:
        request: Of a study.
        overrides: As of `isograd train`.

    Raises:
        ConfigError: One of them would change what the trials compute, so that they could not be compared.
    """
    names = {item: _option_of(item) for item in overrides}
    fixed = [item for item, name in names.items() if name != _DATA_PATH and name.partition(".")[0] not in _MOVABLE]
    if refused := fixed or changing(request.base, overrides, rounding):
        raise ConfigError(
            f"{' '.join(refused)} cannot be changed in a study",
            "Its trials would no longer be comparable",
            f"Use options of {', '.join(_MOVABLE)} and {_DATA_PATH} only (but for threads and microbatches), "
            "--extend N for more trials, or begin another study.",
        )
    return dataclasses.replace(request, base=overridden(request.base, overrides))


def relocate_data(request: Request, overrides: Sequence[str]) -> Request:
    """Returns the request with the place of the data that overrides name, if they name one; others are left alone."""
    return move_request(request, [item for item in overrides if _option_of(item) == _DATA_PATH])


def write_request(request: Request) -> None:
    """Writes a request into its study's folder, so that the study can go on whatever becomes of the space's file."""
    request.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(request.folder / _SPACE, OmegaConf.to_yaml(OmegaConf.create(dict(request.file.tree))))
    record = {
        "format": _FORMAT,
        "space": request.file.name,
        "items": request.items,
        "sweep": dataclasses.asdict(request.sweep),
        "base": to_dict(request.base),
    }
    write_atomically(request.folder / _SWEEP, json.dumps(record, indent=2) + "\n")


def _check_format(path: Path, record: Mapping[str, Any]) -> None:
    """Raises StudyError for a study of another version of the package."""
    if (known := record.get("format", 1)) != _FORMAT:
        raise StudyError(
            f"{path} has format {known}, and this version reads format {_FORMAT}",
            "By what its trials are judged, and on which split, is written otherwise there",
            "Begin another study with `isograd tune`, or go on with it by the version that began it.",
        )


def is_study(folder: Path) -> bool:
    """Whether a folder is one of a study. Raises MachineError where this user may not read it."""
    check_readable(folder)
    return (folder / _SWEEP).is_file()


def read_request(folder: Path) -> Request:
    """Reads the request of a study.

    Raises:
        StudyError: The folder is none of a study, or damaged.
        MachineError: This user may not read it.
    """
    folder = user_path(folder).absolute()
    path = folder / _SWEEP
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        check_sections(record, ("sweep", "base"))
        _check_format(path, record)
        if not isinstance(record.get("space"), str) or not isinstance(record.get("items"), list):
            raise ValueError("it has no name of a space, or no items of a command line")
        with naming_options("tune.", SweepConfig(), record["sweep"]):
            sweep = typed(SweepConfig(), record["sweep"])
        base = from_stored(record["base"])
    except PermissionError as error:
        raise unreadable(path, error) from error
    except FileNotFoundError as error:
        raise StudyError(
            f"{folder} cannot be read as a study: it has no {_SWEEP}",
            f"A study's folder has {_SWEEP} and {_SPACE}, as `isograd tune` writes them",
            "Use the folder that `isograd tune` printed.",
        ) from error
    except (OSError, ValueError) as error:
        raise StudyError(
            f"{path} is no record of a study: {reason(error)}",
            "A study goes on as it was begun, and that file says how",
            "Use a copy of that file as `isograd tune` wrote it, or begin another study.",
        ) from error
    file = dataclasses.replace(load_space(str(folder / _SPACE)), name=record["space"])
    return Request(tuple(record["items"]), file, sweep, base, str(sweep.name), folder)
