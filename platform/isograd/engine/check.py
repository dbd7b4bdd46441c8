"""Values that no run can have: out of range, of the wrong length, or at odds with each other."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from isograd.data.datasets import DATASETS
from isograd.data.labels import MOST_CLASSES
from isograd.engine.config import RunConfig
from isograd.errors import ConfigError
from isograd.options import Range, check_choice, check_declared, check_folder_name, check_number, check_numbers

_CHANNELS = (1, 3)  # grey, RGB
_COUNT, _POSITIVE, _NOT_NEGATIVE, _SHARE = Range(1), Range(0, open=True), Range(0), Range(0, 1)

# By section and field, for whatever component is chosen; a field that it does not have is passed over.
RANGES: dict[str, Range] = {
    "train.epochs": _COUNT,
    "train.max_steps": _NOT_NEGATIVE,
    "checkpoint.every_epochs": _NOT_NEGATIVE,
    "checkpoint.every_steps": _NOT_NEGATIVE,
    "checkpoint.keep": _COUNT,
    "partition.memory_mib": _POSITIVE,
    "cluster.num_cpus": _COUNT,
    "cluster.object_store_bytes": Range(75 * 2**20),
    "data.batch_size": _COUNT,
    "data.num_classes": Range(2, MOST_CLASSES),
    "data.padding": _NOT_NEGATIVE,
    "data.resize": _COUNT,
    "data.window": _COUNT,
    "precision.clip_norm": _NOT_NEGATIVE,
    "optimizer.lr": _NOT_NEGATIVE,
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
    "schedule.warmup_epochs": _NOT_NEGATIVE,
    "schedule.warmup_lr": _NOT_NEGATIVE,
    "schedule.every_epochs": _COUNT,
    "schedule.factor": _POSITIVE,
}

CHOICES: dict[str, tuple[str, ...]] = {
    "data.loading": ("memory", "stream"),
    "data.crop": ("exact", "random"),
    "data.padding_mode": ("reflect", "constant"),
}


def check(config: RunConfig) -> None:
    """Raises ConfigError for the first value that no run can have."""
    _check_classes(config.data)
    for option, allowed in RANGES.items():
        value = _value(config, option)
        if value is not None:
            check_number(option, value, allowed)
    for option, choices in CHOICES.items():
        check_choice(option, _value(config, option), choices)
    check_declared("method", config.method)
    check_declared("task", config.task)
    check_folder_name("run_name", config.run_name, "folder")
    _check_images(config.data)
    _check_optimizer(config)
    _check_rates(config)
    config.executor.check(config)


def _value(config: RunConfig, option: str) -> Any:
    section, _, name = option.partition(".")
    return getattr(getattr(config, section), name, None)


def _check_classes(data: Any) -> None:
    """Says more than that the number is out of range: to name another one would not mend it."""
    if data.num_classes < 2:
        raise ConfigError(
            f"data.num_classes={data.num_classes} leaves nothing to tell apart",
            "The loss of a single class is 0 whatever the network says, and so is its error",
            "Use data.num_classes=N with the number of classes of the data set, 2 or more.",
        )


def _check_images(data: Any) -> None:
    if data.name == "digits" and data.path:
        raise ConfigError(
            f"data.path={data.path} is not read by data=digits",
            "The digits come with scikit-learn, and the run would train on them",
            f"Use data=parquet data.path={data.path}, or another data set that lies in files.",
        )
    if data.name == "digits" and list(data.image_shape) != (shape := DATASETS.get("digits").image_shape):
        raise ConfigError(
            f"data.image_shape={list(data.image_shape)} does not go with data=digits, whose images are {shape}",
            "The network is built for the images that the data set has: grey, 8 by 8 pixels",
            f"Use data.image_shape=[{','.join(map(str, shape))}], or leave it out.",
        )
    _check_shape(data.image_shape)
    channels = data.image_shape[0]
    of_pixels = "one number a channel, of pixels in [0, 1]"
    check_numbers("data.mean", data.mean, channels, of_pixels, _SHARE, "0.5")
    check_numbers("data.std", data.std, channels, of_pixels, Range(0, 1, open=True), "0.5")
    side = min(data.image_shape[1:])
    if data.crop == "exact" and data.resize is not None:
        raise ConfigError(
            f"data.resize={data.resize} is not used with data.crop=exact",
            "Images have the shape that the network gets already, and none is resized",
            "Use data.loading=stream data.crop=random, or leave data.resize out.",
        )
    if data.crop == "random" and data.test_resize < side:
        raise ConfigError(
            f"data.resize={data.resize} is less than {side}, the shorter side of data.image_shape={data.image_shape}",
            "Images to test on are scaled to it before their centre is cropped: the rest would be black",
            f"Use data.resize={side * 8 // 7}, or leave it out.",
        )
    if data.padding_mode == "reflect" and data.padding >= side:
        raise ConfigError(
            f"data.padding={data.padding} cannot be reflected in images of {side} pixels",
            "There are not as many pixels to mirror",
            f"Use data.padding={side - 1}{' or less' if side > 1 else ''}, or data.padding_mode=constant.",
        )
    for unfit, loading, why in (
        (data.crop == "random", "memory", "Images held in memory all have the shape that the network gets"),
        (data.name == "digits", "stream", "scikit-learn's digits are an array, not files that could be streamed"),
    ):
        if unfit and data.loading == loading:
            raise ConfigError(
                f"data.loading={loading} does not go with data={data.name} data.crop={data.crop}",
                why,
                f"Use data.loading={'stream' if loading == 'memory' else 'memory'}.",
            )


def _check_shape(shape: Sequence[int]) -> None:
    """Raises ConfigError for what is not [C, H, W]; nearly always it is the same in another order."""
    if len(shape) == 3 and shape[0] in _CHANNELS and min(shape) >= 1:
        return
    last = len(shape) == 3 and shape[2] in _CHANNELS and min(shape) >= 1
    likely = [shape[2], *shape[:2]] if last else [3, *shape] if len(shape) == 2 and min(shape) >= 1 else [3, 32, 32]
    raise ConfigError(
        f"data.image_shape={list(shape)} does not fit",
        "It is [C, H, W]: 1 or 3 channels, as images are decoded to grey or RGB; then height and width, at least 1",
        f"Use data.image_shape=[{','.join(map(str, likely))}], for example.",
    )


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
