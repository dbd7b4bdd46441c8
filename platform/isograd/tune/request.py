"""What `isograd tune` is asked for: a space, how it is searched, and the runs that both are about."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from isograd.config.items import Item, split_all
from isograd.config.load import changing, load, overridden
from isograd.config.stored import check_sections, from_stored, naming_options, reason
from isograd.config.typed import typed
from isograd.config.written import from_command_line, hints_of, is_list
from isograd.data.dataset import dataset_of
from isograd.display.measures import SCORE, Measure, measures_of
from isograd.engine.blueprint import task_of
from isograd.engine.config import RunConfig, hold_out, rounding, to_dict
from isograd.errors import ConfigError, SpaceError, StudyError
from isograd.options import Range, check_declared, check_folder_name, check_not_set, check_number, choice, number
from isograd.registry import suggestion
from isograd.system.files import write_atomically
from isograd.system.passwords import hide_password
from isograd.system.paths import user_path
from isograd.system.trouble import check_readable, unreadable
from isograd.tasks.task import Score
from isograd.tune.judge import OBJECTIVES, SPLIT
from isograd.tune.space_file import SpaceFile, load_space
from isograd.tune.storage import absolute_url

_KINDS: dict[Any, tuple[str, str]] = {  # of options that are no text
    int: ("a whole number", "8"),
    int | None: ("a whole number", "8"),
    bool: ("true or false", "true"),
    list[int]: ("a list of whole numbers", "[0,1,2]"),
    list[str]: ("a list of names", f"[{SCORE}]"),
}
_SWEEP, _SPACE = "sweep.json", "space.yaml"
_FORMAT = 2  # of sweep.json; in the first, trials were judged by the test error
_SET_HERE = {
    "train.max_steps": "train.epochs=N",
    "seed": "tune.seeds=[0,1,2]",
    "folder": "tune.folder=DIR",
    "run_name": "tune.name=NAME",
}
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


@dataclass
class SweepConfig:
    """How a space is searched: options ``tune.NAME=VALUE`` of `isograd tune`.

    Attributes:
        name: Of the study, and of its folder; null: the space and the time.
        folder: Where studies are kept. On several nodes, a file system that all of them see lets a trial that was lost
            go on where it was; without one it begins anew.
        num_trials: Configurations to try; those that cannot be trained, or were tried before, do not count.
        seeds: Of each configuration; the searcher sees means over them.
        objectives: What is to become better: ``score`` (the task's, on the validation split after the last epoch, mean
            over seeds), ``peak_bytes`` (largest memory of a stage, over seeds), ``epoch_s`` (seconds of training an
            epoch, mean over seeds).
        sampler: ``gp`` (a Gaussian process over the space, of one objective), ``tpe`` (of several objectives:
            multi-objective TPE), ``nsga2``, ``random``, or ``auto``: gp of one objective, tpe of several.
        sampler_seed: Of the searcher's own draws.
        num_startup: Trials that are drawn at random before the searcher follows what it has seen.
        start_from_defaults: Whether the first trial is the method as it is configured, cut evenly.
        scheduler: ``asha`` stops trials early that are behind others at the same epoch; ``none``. It looks at the
            score; of several objectives, what it stopped is on no front.
        grace_epochs: Before these ``asha`` stops nothing.
        reduction: At each of its stops, one in so many goes on; these are so many times as far apart.
        storage: Of the study: an SQLAlchemy URL, or the path of a journal (``.log``); null: SQLite in the study's
            folder.
        max_concurrent: Trials at once; null: as many as the cluster has room for.
        num_retries: Of a trial that fails, from its last checkpoint.
        num_lost_retries: Of a trial whose process or node is lost; a node's death counts once, whatever fails on it.
        reuse_actors: Whether a trial takes over the processes of one before it. Not where memory is an objective: a
            process remembers its largest.
        keep_checkpoints: Whether those of trials that have ended stay.
    """

    name: str | None = None
    folder: str = "studies"
    num_trials: int = number(32, least=1)
    seeds: list[int] = field(default_factory=lambda: [0])
    objectives: list[str] = field(default_factory=lambda: [SCORE])
    sampler: str = choice("auto", "gp", "tpe", "nsga2", "random")
    sampler_seed: int = number(0, least=0)
    num_startup: int = number(10, least=0)
    start_from_defaults: bool = True
    scheduler: str = choice("asha", "none")
    grace_epochs: int = number(1, least=1)
    reduction: int = number(3, least=2)
    storage: str | None = None
    max_concurrent: int | None = None
    num_retries: int = number(1, least=0)
    num_lost_retries: int = number(3, least=0)
    reuse_actors: bool = True
    keep_checkpoints: bool = False

    @property
    def has_several_objectives(self) -> bool:
        """Whether there is a front instead of a best trial."""
        return len(self.objectives) > 1

    @property
    def sampler_name(self) -> str:
        """Which sampler it is, where that is left to the objectives, too."""
        if self.sampler != "auto":
            return self.sampler
        return "tpe" if self.has_several_objectives else "gp"

    @property
    def reuses_actors(self) -> bool:
        """Whether trials do take over processes."""
        return self.reuse_actors and "peak_bytes" not in self.objectives

    def stops(self, num_epochs: int) -> list[int]:
        """Returns the epochs at which a trial reports and may be stopped; the last is that of its full length."""
        epochs = []
        epoch = self.grace_epochs
        while self.scheduler == "asha" and epoch < num_epochs:
            epochs.append(epoch)
            epoch *= self.reduction
        return [*epochs, num_epochs]


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

    @property
    def objectives(self) -> dict[str, Measure]:
        """By which of these trials are compared."""
        return {name: self.measures[name] for name in self.sweep.objectives}

    def trial_folder(self, number: int) -> Path:
        """Returns where a trial's runs are."""
        return self.folder / "trials" / f"{number:04d}"

    def to_yaml(self) -> str:
        """Returns the sweep's options and the space, as YAML to be shown: a password in the storage is hidden."""
        sweep = {key: value for key, value in dataclasses.asdict(self.sweep).items() if key != "name"}
        sweep["storage"] = self.sweep.storage and hide_password(self.sweep.storage)
        return OmegaConf.to_yaml(OmegaConf.create({"tune": {"name": self.name, **sweep}, **self.file.tree}))

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
    sweep = _make_sweep(of_sweep)
    file = load_space(space, of_space)
    options = {_option_of(item) for item in of_runs}
    fixed = [name for name in (parameter.name for parameter in file.space.parameters) if _is_set(name, options)]
    if fixed:
        file = load_space(space, [*of_space, *(f"~{name}" for name in fixed)])
    _check_shared(file)
    base = hold_out(load(of_runs, file.options))
    _check_validates(base)
    name = sweep.name or f"{file.name}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"
    folder = user_path(sweep.folder).absolute() / name
    sweep = dataclasses.replace(sweep, name=name, storage=sweep.storage and absolute_url(sweep.storage))
    return Request(tuple(items), file, sweep, base, name, folder)


def _option_of(item: str) -> str:
    return item.lstrip("+~").partition("=")[0]


def _is_set(parameter: str, options: set[str]) -> bool:
    """Whether a command line sets what a parameter would search; the cuts, by the partition's own choice as well."""
    return parameter in options or (parameter == "partition.ends" and "partition" in options)


def _make_sweep(items: Iterable[Item]) -> SweepConfig:
    """Returns the options of a sweep; of several items for one, the last one wins.

    Raises:
        ConfigError: An option is unknown, or has a value that it cannot have.
    """
    config, hints = SweepConfig(), hints_of(SweepConfig)
    for item in items:
        name = item.option.removeprefix("tune.")
        if name not in hints:
            raise ConfigError(
                f"there is no option {item.option}.{suggestion(name, list(hints))}",
                f"A sweep has the options {', '.join(f'tune.{known}' for known in hints)}",
                "Use one of these, as tune.num_trials=64.",
            )
        if is_list(hints[name]) and not item.text.startswith("["):
            raise _refusal(item, name)
        try:
            config = typed(config, {name: from_command_line(item.option, hints[name], item.text)})
        except OmegaConfBaseException as error:
            raise _refusal(item, name) from error
    _check_sweep(config)
    return config


def _refusal(item: Item, name: str) -> ConfigError:
    kind, example = _KINDS.get(SweepConfig.__dataclass_fields__[name].type, ("a text", "NAME"))
    return ConfigError(
        f"{item} is not {kind}",
        f"{item.option} is {getattr(SweepConfig(), name)} unless it is set",
        f"Use {item.option}={example}, for example.",
    )


def _check_sweep(config: SweepConfig) -> None:
    check_declared("tune", config)
    if config.max_concurrent is not None:
        check_number("tune.max_concurrent", config.max_concurrent, Range(1))
    for name, values, example in (("seeds", config.seeds, "0,1,2"), ("objectives", config.objectives, SCORE)):
        if not values or len(set(values)) < len(values):
            raise ConfigError(
                f"tune.{name}={values} does not list {name}",
                "There has to be at least one, each once",
                f"Use tune.{name}=[{example}].",
            )
    for objective in config.objectives:
        if objective not in OBJECTIVES:
            raise ConfigError(
                f"tune.objectives has '{objective}', which is not known.{suggestion(objective, list(OBJECTIVES))}",
                f"It lists one or more of {' or '.join(OBJECTIVES)}",
                f"Use tune.objectives=[{OBJECTIVES[0]}].",
            )
    check_folder_name("tune.name", config.name, "tune.folder")
    if config.sampler == "gp" and config.has_several_objectives:
        raise ConfigError(
            f"tune.sampler=gp does not go with {len(config.objectives)} objectives",
            "It is judged by how much better than the best one a configuration may be, and a front has no best one",
            "Use tune.sampler=tpe or tune.sampler=nsga2.",
        )


def _check_validates(base: RunConfig) -> None:
    if base.data.valid == 0:
        raise ConfigError(
            "data.valid=0 leaves the trials no validation split",
            "One of them is chosen by its score there: what is chosen by the test split has no test left",
            "Leave data.valid out for a tenth of the training split, or use data.valid=0.2, for example.",
        )


def _check_shared(file: SpaceFile) -> None:
    """Raises SpaceError for a space that sets what a sweep sets by itself."""
    set_by = [(option, file.lines.at("options", option), _SET_HERE) for option in file.options]
    for parameter in file.space.parameters:
        set_by += [(option, file.place(parameter.name), _SHARED | _SET_HERE) for option in parameter.sets]
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
        if record.get("format") != _FORMAT:
            raise ValueError(f"it has format {record.get('format')}, and this version reads format {_FORMAT}")
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
