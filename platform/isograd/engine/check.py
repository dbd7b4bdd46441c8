"""Values that no run can have: out of range, of the wrong length, or at odds with each other."""

from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn

from isograd.data.dataset import dataset_of
from isograd.engine.config import RunConfig
from isograd.errors import ConfigError
from isograd.local.optimizer import each_lr
from isograd.options import Range, check_declared, check_folder_name, check_number

_COUNT, _POSITIVE, _NOT_NEGATIVE, _SHARE = Range(1), Range(0, open=True), Range(0), Range(0, 1)

# By section and field, for whatever component is chosen; a field that it does not have is passed over.
RANGES: dict[str, Range] = {
    "checkpoint.every_epochs": _NOT_NEGATIVE,
    "checkpoint.every_steps": _NOT_NEGATIVE,
    "checkpoint.keep": _COUNT,
    "partition.memory_mib": _POSITIVE,
    "cluster.num_cpus": _COUNT,
    "cluster.object_store_bytes": Range(75 * 2**20),
    "precision.clip_norm": _NOT_NEGATIVE,
    "optimizer.lr": Range(0, 1e30, example=0.1),  # float32 has no more than 3e38, and Adam divides
    "optimizer.momentum": _SHARE,
    "optimizer.weight_decay": _NOT_NEGATIVE,
    "model.width": _COUNT,
    "model.depth": _COUNT,
    "model.num_heads": _COUNT,
    "model.patch_size": _COUNT,
    "model.stem_stride": _COUNT,
    "model.mlp_ratio": _POSITIVE,
    "model.drop_rate": _SHARE,
    "model.drop_path_rate": _SHARE,
    "lr_schedule.warmup_epochs": _NOT_NEGATIVE,
    "lr_schedule.warmup_lr": _NOT_NEGATIVE,
    "lr_schedule.every_epochs": _COUNT,
    "lr_schedule.factor": _POSITIVE,
}


def check(config: RunConfig) -> None:
    """Raises ConfigError for the first value that no run can have."""
    for option, allowed in RANGES.items():
        value = _value(config, option)
        if value is not None:
            check_number(option, value, allowed)
    dataset_of(config.data).check()
    for item in fields(config):
        section = getattr(config, item.name)
        if is_dataclass(section) and item.name not in ("data", "executor"):  # which check themselves, more closely
            check_declared(item.name, section)
    check_folder_name("run_name", config.run_name, "folder")
    _check_optimizer(config)
    _check_rates(config)
    config.executor.check(config)


def _value(config: RunConfig, option: str) -> Any:
    section, _, name = option.partition(".")
    return getattr(getattr(config, section), name, None)


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
    epochs, steps, peak, schedule = config.train.epochs, config.train.max_steps, config.optimizer.lr, config.lr_schedule
    if schedule.by_step and steps <= getattr(schedule, "warmup_steps", 0):
        warmup = getattr(schedule, "warmup_steps", 0)
        raise ConfigError(
            f"train.max_steps={steps} leaves no step after lr_schedule.warmup_steps={warmup} of {schedule.name}",
            "The learning rate falls from its peak to 0 over the steps of the run, which have to be a number",
            f"Use train.max_steps={max(20 * warmup, 1000)}, for example, or lr_schedule=cosine, which goes by epochs.",
        )
    if peak > 0 and not any(each_lr(schedule, peak, epochs, steps)):
        raise ConfigError(
            f"with train.epochs={epochs} the learning rate is 0 in every epoch",
            f"lr_schedule={schedule.name} does not come to its peak, optimizer.lr={peak:g}, and no weight would change",
            "Use lr_schedule=cosine.",
        )
