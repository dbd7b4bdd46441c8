"""The configuration of a run, as dataclasses. Components own their part; this file holds what belongs to none."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from isograd.cluster.config import ClusterConfig, Demand
from isograd.local.learner import Precision
from isograd.options import check_declared, choice, number

_HELD_OUT = 0.1  # of the training split, by whoever chooses among runs

# What changes the numbers of a run; a checkpoint only fits a run that agrees in these.
_NUMERIC = ("seed", "model", "task", "data", "method", "partition", "optimizer", "lr_schedule", "precision", "train")


@dataclass
class TrainConfig:
    """Attributes:
    epochs: Passes over the training split; the learning-rate schedule spans them.
    max_steps: Stop after this many steps; 0: after the last epoch.
    evaluate_every: Run the validation split after so many epochs, and after the last one; where there is none, the test
        split, which is else run once, at the end.
    """

    epochs: int = number(15, least=1)
    max_steps: int = number(0, least=0)
    evaluate_every: int = number(1, least=1)


@dataclass
class ExecutorConfig:
    """How local modules are run: the options of every executor, to which each adds its own.

    What is here changes speed, never results (on the CPU, ``threads`` excepted).

    Attributes:
        name: Of the executor.
        device: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``.
        threads: Threads of torch in each process on the CPU. Sums are split among threads, so another number rounds
            differently; it is the same in all executors.
        cpus_per_stage: CPUs that a stage reserves, or a trial in one process.
        gpus_per_stage: GPUs that it reserves where ``device`` is a GPU.
        event_interval_s: Least time between two progress reports of a stage.
        timeline: How many of the newest steps each stage records, action by action; 0: none.
    """

    name: str = ""
    device: str = choice("auto", "cpu", "cuda")
    threads: int = number(1, 1)
    cpus_per_stage: float = number(1.0, 0, open=True)
    gpus_per_stage: float = number(1.0, 0, open=True)
    event_interval_s: float = number(0.5, 0)
    timeline: int = number(0, 0)

    @classmethod
    def of(cls, other: "ExecutorConfig", **options: Any) -> Self:
        """Returns a configuration of this executor.

        Args:
            other: Another executor's; of its options those are kept that this one has as well.
            options: Set besides.
        """
        shared = {item.name for item in fields(cls)} & {item.name for item in fields(other)} - {"name"}
        return cls(**{name: getattr(other, name) for name in shared} | options)

    @classmethod
    def within(cls, config: "RunConfig") -> Self:
        """Returns the executor's options of a run that has this executor."""
        assert isinstance(config.executor, cls), f"{type(config.executor)} is not of executor {cls().name}"
        return config.executor

    @property
    def demand(self) -> Demand:
        """What each process reserves."""
        return Demand(self.device, self.cpus_per_stage, self.gpus_per_stage)

    @property
    def rounding(self) -> tuple[int, ...]:
        """What of the options changes how sums are rounded: threads, and microbatches (1: whole batches)."""
        return self.threads, 1

    def in_one_stage(self) -> Self:
        """Returns the options for a method without cuts: without a number of stages that only cuts could give."""
        return self

    def check(self, config: "RunConfig") -> None:
        """Raises ConfigError for options out of range, or that do not go with each other or with those of the run."""
        check_declared("executor", self)


@dataclass
class CheckpointConfig:
    """Attributes:
    every_epochs: Write one after so many epochs; 0: never.
    every_steps: Write one after so many training steps as well; 0: never.
    keep: How many of the newest are kept.
    """

    every_epochs: int = 1
    every_steps: int = 0
    keep: int = 2


@dataclass
class RunConfig:
    """Everything that defines a run.

    Attributes:
        seed: Of initial weights, data order, augmentation and dropout.
        folder: Where run folders are made.
        run_name: Of the run folder; null: method, model, data set and time.
        model: Configuration of a backbone, with its ``name``.
        task: Configuration of a task.
        data: Configuration of a data set.
        method: Configuration of a method.
        partition: A partition rule.
        optimizer: An optimizer of each local module.
        lr_schedule: Of the learning rate.
        executor: Configuration of an executor, its own options included.
    """

    seed: int = 0
    folder: str = "runs"
    run_name: str | None = None
    model: Any = None
    task: Any = None
    data: Any = None
    method: Any = None
    partition: Any = None
    optimizer: Any = None
    lr_schedule: Any = None
    precision: Precision = field(default_factory=Precision)
    train: TrainConfig = field(default_factory=TrainConfig)
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Returns the configuration as plain values; :func:`isograd.config.load.from_dict` turns it back."""
    return asdict(config)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields all of a tree of options by dotted names, as ``train.epochs``; mappings before what they hold."""
    for key, value in tree.items():
        yield f"{prefix}{key}", value
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")


def hold_out(config: RunConfig, share: float = _HELD_OUT) -> RunConfig:
    """Returns the configuration with a validation split, unless it says itself what is held out: to choose by it."""
    if config.data.valid is not None:
        return config
    return replace(config, data=replace(config.data, valid=share))


def fingerprint(config: RunConfig) -> str:
    """Returns a short hash of all that changes a run's numbers: neither executor nor folders are in it."""
    tree = {key: value for key, value in to_dict(config).items() if key in _NUMERIC}
    tree["data"] = {key: value for key, value in tree["data"].items() if key != "path"}
    del tree["train"]["evaluate_every"]
    if not config.lr_schedule.by_step:
        del tree["train"]["max_steps"]  # the schedule spans the epochs, and what has been trained stays as it is
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:12]


def rounding(config: RunConfig) -> tuple[int, ...]:
    """Returns what of the executor changes how a run's sums are rounded.

    Two runs of one fingerprint come to the same numbers where this is the same, too.
    """
    return config.executor.rounding
