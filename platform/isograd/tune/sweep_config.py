"""How a space is searched: the options ``tune.NAME=VALUE`` of `isograd tune`."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from isograd.config.items import Item
from isograd.config.typed import typed
from isograd.config.written import from_command_line, hints_of, is_list
from isograd.display.measures import SCORE
from isograd.errors import ConfigError
from isograd.options import Range, check_declared, check_folder_name, check_number, choice, number
from isograd.registry import suggestion
from isograd.tune.judge import OBJECTIVES

_KINDS: dict[Any, tuple[str, str]] = {  # of options that are no text
    int: ("a whole number", "8"),
    int | None: ("a whole number", "8"),
    bool: ("true or false", "true"),
    list[int]: ("a list of whole numbers", "[0,1,2]"),
    list[str]: ("a list of names", f"[{SCORE}]"),
}


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


def make_sweep_config(items: Iterable[Item]) -> SweepConfig:
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
