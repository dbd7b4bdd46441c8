"""Optimizers and learning-rate schedules of a local module. Each module owns one optimizer.

One optimizer for all modules and one for each are the same rule, element by element, as long as the learning rate is a
function of the step; so a schedule here is a pure function of the position in the run, with no state to save.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from isograd.options import choice, number
from isograd.registry import Registry


@dataclass(frozen=True)
class Place:
    """Where in a run an update is.

    Attributes:
        epoch: From 1.
        num_epochs: Of the run.
        step: Updates before this one, over the whole run.
        num_steps: Of the run, where it is limited to a number; 0: its epochs end it.
    """

    epoch: int
    num_epochs: int
    step: int = 0
    num_steps: int = 0


class OptimizerConfig(Protocol):
    """Builds an optimizer. A dataclass with a field ``name``; ``lr`` is the peak learning rate."""

    name: str
    lr: float

    def build(self, weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Returns the optimizer over ``weights``, one parameter group."""
        ...


class LrScheduleConfig(Protocol):
    """Maps the position in the run to a learning rate. A dataclass with a field ``name``.

    Attributes:
        by_step: Whether the rate changes from step to step, over a number of steps that is set; else by epoch alone.
    """

    name: str
    by_step: ClassVar[bool]

    def lr(self, peak: float, place: Place) -> float:
        """Returns the learning rate at a place in the run."""
        ...


OPTIMIZERS: Registry[Any] = Registry("optimizer", group="isograd.optimizers")
LR_SCHEDULES: Registry[Any] = Registry("lr_schedule", group="isograd.lr_schedules")


def each_lr(schedule: LrScheduleConfig, peak: float, num_epochs: int, num_steps: int) -> Iterator[float]:
    """Yields the learning rates of a run, epoch by epoch, or step by step where the schedule goes by steps."""
    places = (Place(epoch, num_epochs, 0, num_steps) for epoch in range(1, num_epochs + 1))
    if schedule.by_step:
        places = (Place(1, num_epochs, step, num_steps) for step in range(num_steps))
    return (schedule.lr(peak, place) for place in places)


@OPTIMIZERS.register("sgd")
@dataclass
class SGD:
    """Nesterov SGD with weight decay on all parameters, BatchNorm's and biases included, as InfoPro's recipe."""

    name: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4

    def build(self, weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Returns torch's optimizer over ``weights``."""
        return torch.optim.SGD(
            weights, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, weight_decay=self.weight_decay
        )


@OPTIMIZERS.register("adamw")
@dataclass
class AdamW:
    """Adam with decoupled weight decay, the recipe of the transformers.

    Attributes:
        decays: What is decayed: ``all``, or ``matrices`` only: no bias, no weight of a normalisation, no embedding.
    """

    name: str = "adamw"
    lr: float = 1e-3
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1e-8
    weight_decay: float = 0.05
    decays: str = choice("all", "matrices")

    def build(self, weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Returns torch's optimizer over ``weights``."""
        return torch.optim.AdamW(
            weights, lr=self.lr, betas=(self.betas[0], self.betas[1]), eps=self.eps, weight_decay=self.weight_decay
        )


@OPTIMIZERS.register("adam")
@dataclass
class Adam:
    """Adam, DGL's choice in its comparison with DNI."""

    name: str = "adam"
    lr: float = 3e-5
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1e-8
    weight_decay: float = 0.0

    def build(self, weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Returns torch's optimizer over ``weights``."""
        return torch.optim.Adam(
            weights, lr=self.lr, betas=(self.betas[0], self.betas[1]), eps=self.eps, weight_decay=self.weight_decay
        )


@LR_SCHEDULES.register("warmup_cosine")
@dataclass
class WarmupCosine:
    """InfoPro's schedule: with e = 1 .. E, lr = peak / 2 (1 + cos(pi e / E)), blended from ``warmup_lr`` at first.

    For e <= ``warmup_epochs`` (w): lr(e) (e - 1) / w + warmup_lr (w + 1 - e) / w.

    Note:
        The last epoch has learning rate 0, as in the release: only BatchNorm statistics move.
    """

    by_step: ClassVar[bool] = False

    name: str = "warmup_cosine"
    warmup_epochs: int = 10
    warmup_lr: float = 0.01

    def lr(self, peak: float, place: Place) -> float:
        """Returns the learning rate of the epoch."""
        epoch = place.epoch
        value = 0.5 * peak * (1 + math.cos(math.pi * epoch / place.num_epochs))
        if epoch > self.warmup_epochs:
            return value
        return (
            value * (epoch - 1) / self.warmup_epochs
            + self.warmup_lr * (self.warmup_epochs + 1 - epoch) / self.warmup_epochs
        )


@LR_SCHEDULES.register("cosine")
@dataclass
class Cosine:
    """Cosine without warm-up, e = 0 .. E - 1, as the ImageNet recipes: no epoch has learning rate 0."""

    by_step: ClassVar[bool] = False

    name: str = "cosine"

    def lr(self, peak: float, place: Place) -> float:
        """Returns the learning rate of the epoch."""
        return 0.5 * peak * (1 + math.cos(math.pi * (place.epoch - 1) / place.num_epochs))


@LR_SCHEDULES.register("cosine_steps")
@dataclass
class CosineSteps:
    """Language models' schedule: w steps of linear warm-up, then a cosine to 0 over the rest of ``train.max_steps``.

    With t = 0 .. N - 1: lr = peak (t + 1) / w for t < w, then peak / 2 (1 + cos(pi (t - w) / (N - w))).

    Attributes:
        warmup_steps: w, less than N.
    """

    by_step: ClassVar[bool] = True

    name: str = "cosine_steps"
    warmup_steps: int = number(100, least=0)

    def lr(self, peak: float, place: Place) -> float:
        """Returns the learning rate of the step."""
        if place.step < self.warmup_steps:
            return peak * (place.step + 1) / self.warmup_steps
        share = (place.step - self.warmup_steps) / (place.num_steps - self.warmup_steps)
        return 0.5 * peak * (1 + math.cos(math.pi * min(share, 1.0)))


@LR_SCHEDULES.register("steps")
@dataclass
class Steps:
    """Multiplies by ``factor`` every ``every_epochs`` epochs; DGL's studies use 0.2 every 15."""

    by_step: ClassVar[bool] = False

    name: str = "steps"
    every_epochs: int = 15
    factor: float = 0.2

    def lr(self, peak: float, place: Place) -> float:
        """Returns the learning rate of the epoch."""
        return peak * self.factor ** ((place.epoch - 1) // self.every_epochs)


@LR_SCHEDULES.register("constant")
@dataclass
class Constant:
    """The peak throughout."""

    by_step: ClassVar[bool] = False

    name: str = "constant"

    def lr(self, peak: float, place: Place) -> float:
        """Returns the learning rate of the epoch."""
        return peak
