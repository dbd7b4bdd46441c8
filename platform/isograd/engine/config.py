"""The configuration of a run, as dataclasses. Components own their part; this file holds what belongs to none."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from isograd.cluster.config import ClusterConfig
from isograd.local.learner import Precision

# What changes the numbers of a run; a checkpoint only fits a run that agrees in these.
_NUMERIC = ("seed", "model", "task", "data", "method", "partition", "optimizer", "schedule", "precision", "train")


@dataclass
class TrainConfig:
    """Attributes:
    epochs: Passes over the training split; the learning-rate schedule spans them.
    max_steps: Stop after this many steps; 0: after the last epoch.
    """

    epochs: int = 15
    max_steps: int = 0


@dataclass
class ExecutorConfig:
    """How local modules are run. What is here changes speed, never results (on the CPU, ``threads`` excepted).

    ``microbatch`` is the exception: it rounds otherwise, and BatchNorm and dropout see microbatches.

    Attributes:
        name: ``sequential``, ``pipelined`` or ``microbatch`` (end-to-end training only).
        num_stages: S, the processes that the K local modules are spread over; null: 2, or 1 where K is 1 or the
            machine has a single GPU. Under ``microbatch``, the processes that the units are spread over.
        modules_per_stage: How many consecutive local modules each stage hosts; null: as ``spread`` says.
        spread: ``even`` (as many modules on every stage) or ``balanced`` (by their measured costs).
        rebalance: ``auto``: where a run shows that modules spread otherwise would make its slowest stage more than
            10 % faster, they move at an epoch's end; ``off``: never.
        speeds: Of the stages' devices, relative to each other, for balancing, one a stage; null: all the same.
        queue_depth: Activations that may wait between two stages.
        channel: How they travel: ``store`` (Ray's object store), ``direct`` (Ray's direct transport), ``collective`` (a
            process group of two a connection: gloo or NCCL), or ``auto``, the best of them where the stages run.
        schedule: Of ``microbatch``: ``gpipe``, ``1f1b``, ``interleaved``, ``zero_bubble`` or ``zbv``.
        num_microbatches: M of ``microbatch``, equal parts of a batch that follow each other through the stages.
        chunks: V of ``microbatch``, the slices of the network that a stage hosts; null: as few as the schedule can
            have, which is 2 for ``interleaved`` and ``zbv``, and 1 for the others.
        units_per_piece: Of ``microbatch``: how many units each of its S V slices has; null: as ``spread`` says.
        device: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``.
        threads: Threads of torch in each process on the CPU. Sums are split among threads, so another number rounds
            differently; it is the same in all executors.
        cpus_per_stage: CPUs that a stage reserves.
        gpus_per_stage: GPUs that a stage reserves where ``device`` is a GPU.
        event_interval_s: Least time between two progress reports of a stage.
        timeline: How many of the newest steps each stage records, action by action; 0: none.
    """

    name: str = "pipelined"
    num_stages: int | None = None
    modules_per_stage: list[int] | None = None
    spread: str = "even"
    rebalance: str = "off"
    speeds: list[float] | None = None
    queue_depth: int = 2
    channel: str = "auto"
    schedule: str = "1f1b"
    num_microbatches: int = 8
    chunks: int | None = None
    units_per_piece: list[int] | None = None
    device: str = "auto"
    threads: int = 1
    cpus_per_stage: float = 1.0
    gpus_per_stage: float = 1.0
    event_interval_s: float = 0.5
    timeline: int = 0


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
        schedule: Of the learning rate.
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
    schedule: Any = None
    precision: Precision = field(default_factory=Precision)
    train: TrainConfig = field(default_factory=TrainConfig)
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Returns the configuration as plain values; :func:`isograd.config.load.from_dict` turns it back."""
    return asdict(config)


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
