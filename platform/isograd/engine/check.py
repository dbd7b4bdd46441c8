"""Values that no run can have: out of range, of the wrong length, or at odds with each other."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from isograd.data.dataset import dataset_of
from isograd.engine.config import RunConfig
from isograd.errors import ConfigError
from isograd.options import Range, check_choice, check_declared, check_folder_name, check_number

_COUNT, _POSITIVE, _NOT_NEGATIVE, _SHARE = Range(1), Range(0, open=True), Range(0), Range(0, 1)

# By section and field, for whatever component is chosen; a field that it does not have is passed over.
RANGES: dict[str, Range] = {
    "train.epochs": _COUNT,
    "train.max_steps": _NOT_NEGATIVE,
    "checkpoint.every_epochs": _NOT_NEGATIVE,
    "checkpoint.every_steps": _NOT_NEGATIVE,
    "checkpoint.keep": _COUNT,
    "executor.queue_depth": _COUNT,
    "executor.num_microbatches": _COUNT,
    "executor.chunks": _COUNT,
    "executor.threads": _COUNT,
    "executor.cpus_per_stage": _POSITIVE,
    "executor.gpus_per_stage": _POSITIVE,
    "executor.event_interval_s": _NOT_NEGATIVE,
    "executor.timeline": _NOT_NEGATIVE,
    "partition.memory_mib": _POSITIVE,
    "cluster.num_cpus": _COUNT,
    "cluster.object_store_bytes": Range(75 * 2**20),
    "precision.clip_norm": _NOT_NEGATIVE,
    "optimizer.lr": _NOT_NEGATIVE,
    "optimizer.momentum": _SHARE,
    "optimizer.weight_decay": _NOT_NEGATIVE,
    "task.label_smoothing": _SHARE,
    "model.width": _COUNT,
    "model.depth": _COUNT,
    "model.num_heads": _COUNT,
    "model.patch_size": _COUNT,
    "model.stem_stride": _COUNT,
    "model.mlp_ratio": _POSITIVE,
    "model.drop_rate": _SHARE,
    "model.drop_path_rate": _SHARE,
    "schedule.warmup_epochs": _NOT_NEGATIVE,
    "schedule.warmup_lr": _NOT_NEGATIVE,
    "schedule.every_epochs": _COUNT,
    "schedule.factor": _POSITIVE,
}

CHOICES: dict[str, tuple[str, ...]] = {
    "executor.name": ("pipelined", "sequential", "microbatch"),
    "executor.schedule": ("1f1b", "gpipe", "interleaved", "zero_bubble", "zbv"),
    "executor.channel": ("auto", "store", "direct", "collective"),
    "executor.device": ("auto", "cpu", "cuda"),
    "executor.spread": ("even", "balanced"),
    "executor.rebalance": ("off", "auto"),
}


def check(config: RunConfig) -> None:
    """Raises ConfigError for the first value that no run can have."""
    for option, allowed in RANGES.items():
        value = _value(config, option)
        if value is not None:
            check_number(option, value, allowed)
    for option, choices in CHOICES.items():
        check_choice(option, _value(config, option), choices)
    check_declared("method", config.method)
    check_folder_name("run_name", config.run_name, "folder")
    dataset_of(config.data).check()
    _check_optimizer(config)
    _check_rates(config)
    _check_microbatches(config)
    _check_speeds(config.executor)


def _value(config: RunConfig, option: str) -> Any:
    section, _, name = option.partition(".")
    return getattr(getattr(config, section), name, None)


def _check_numbers(
    option: str, values: Sequence[float], count: int, meaning: str, allowed: Range, example: str = "1"
) -> None:
    if len(values) != count or not all(allowed.holds(value) for value in values):
        raise ConfigError(
            f"{option}={list(values)} does not fit",
            f"It is {meaning}: {count} of them, each {allowed}",
            f"Use {option}=[{','.join([example] * count)}], with your values.",
        )


def _check_speeds(executor: Any) -> None:
    if executor.speeds is not None:
        count = max(len(executor.speeds), 1) if executor.num_stages is None else executor.num_stages
        _check_numbers("executor.speeds", executor.speeds, count, "the speed of each stage's device", _POSITIVE)


def _check_optimizer(config: RunConfig) -> None:
    """Lets torch judge the rest: momentum, betas, and what goes together."""
    try:
        config.optimizer.build([nn.Parameter(torch.zeros(1))])
    except (ValueError, IndexError) as error:
        raise ConfigError(
            f"the optimizer cannot be built ({error})",
            "Every local module has one of its own",
            f"Use other values of optimizer.*, or the defaults of optimizer={config.optimizer.name}.",
        ) from error


def _check_rates(config: RunConfig) -> None:
    epochs, peak, schedule = config.train.epochs, config.optimizer.lr, config.schedule
    if peak > 0 and not any(schedule.lr(peak, epoch, epochs) for epoch in range(1, epochs + 1)):
        raise ConfigError(
            f"with train.epochs={epochs} the learning rate is 0 in every epoch",
            f"schedule={schedule.name} does not come to its peak, optimizer.lr={peak:g}, and no weight would change",
            "Use schedule=cosine.",
        )


def _check_microbatches(config: RunConfig) -> None:
    executor = config.executor
    splits = executor.name == "microbatch" and executor.schedule in ("zero_bubble", "zbv")
    if config.precision.compile and splits:
        raise ConfigError(
            f"precision.compile does not go with executor.schedule={executor.schedule}",
            "The schedule computes the gradient of the weights apart, which a compiled backward pass cannot",
            "Use precision.compile=false, or executor.schedule=interleaved.",
        )
    if executor.name == "microbatch" and executor.timeline:
        raise ConfigError(
            f"executor.timeline={executor.timeline} does not go with executor=microbatch",
            "Its schedules are torch.distributed.pipelining's, which records by torch.profiler only",
            "Use executor.timeline=0.",
        )
