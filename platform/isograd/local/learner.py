"""A local module with all it needs to learn: device, precision, optimizer."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from isograd.errors import ConfigError
from isograd.local.convolution import Subsampled, replace_overrunning
from isograd.local.message import Message
from isograd.local.module import LocalModule
from isograd.local.nonfinite import FiniteLoss
from isograd.local.optimizer import LrScheduleConfig, OptimizerConfig, Place
from isograd.local.reducer import ALONE, Reducer
from isograd.tasks.task import Task

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


@dataclass
class Precision:
    """How a local module computes. Everything here holds per module, so it does not depend on the executor.

    Attributes:
        dtype: ``float32``; ``bfloat16`` (autocast: weights stay float32, activations between modules are bfloat16);
            ``float64`` for comparisons with released code.
        channels_last: Convolution weights and activations in NHWC memory order; null: on the CPU, where it is faster.
        compile: torch.compile for the units and for the objectives of each module.
        clip_norm: Largest norm of a local module's gradient; 0 switches clipping off.
    """

    dtype: str = "float32"
    channels_last: bool | None = None
    compile: bool = False
    clip_norm: float = 0.0

    def on(self, device: torch.device) -> "Precision":
        """Returns what holds on a device, with nothing left open."""
        channels_last = device.type == "cpu" if self.channels_last is None else self.channels_last
        return replace(self, channels_last=channels_last)


@dataclass
class Learner:
    """A local module with all it needs to take a step.

    Attributes:
        module: On ``device``, prepared by :func:`make_learner`.
        num_epochs: Length of the run, for the schedule.
        num_steps: Likewise, where it is limited to a number of steps; else 0.
        task: Judges what the module's head predicts.
        seed: Of the run; dropout draws from the stream (seed, "noise", step, module).
        subsampled: On a CPU, what keeps oneDNN from overrunning its workspace in convolutions called as functions.
        keeps_subsampled: Whether it stays where the first step called none.
        reducer: Averages the module's gradients with those of other workers.
    """

    module: LocalModule
    optimizer: torch.optim.Optimizer
    peak_lr: float
    schedule: LrScheduleConfig
    num_epochs: int
    num_steps: int
    precision: Precision
    device: torch.device
    seed: int
    task: Task
    finite: FiniteLoss
    subsampled: Subsampled | None = None
    keeps_subsampled: bool = True
    reducer: Reducer = ALONE

    @contextmanager
    def computing(self) -> Iterator[None]:
        """The context in which the forward pass and the loss run."""
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision.dtype == "bfloat16")
        with autocast, self.subsampled or nullcontext():
            yield

    def update_weights(self) -> None:
        """Lets the optimizer take a step with the gradients that there are, and clears them.

        The first step shows whether the module calls a convolution as a function that has to subsample first; where
        it does not, later steps do without the look at every call of torch (some percent of a small module's time).
        """
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.subsampled is not None and not self.keeps_subsampled and not self.subsampled.num_replaced:
            self.subsampled = None

    def set_lr(self, message: Message) -> None:
        """Gives the optimizer the learning rate of the message's step."""
        lr = self.schedule.lr(self.peak_lr, Place(message.epoch, self.num_epochs, message.step, self.num_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_factor"]

    def entering(self, message: Message) -> dict[str, Tensor]:
        """Returns what enters the module, maps in the memory order that its convolutions expect."""
        if not self.precision.channels_last:
            return dict(message.values)
        return {name: _channels_last(value) for name, value in message.values.items()}


def _channels_last(value: Tensor) -> Tensor:
    return value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value


def check_precision(precision: Precision) -> None:
    """Raises ConfigError for a number format that is not supported."""
    if precision.dtype not in DTYPES:
        raise ConfigError(
            f"precision.dtype='{precision.dtype}' is not supported",
            f"Known are {', '.join(DTYPES)}",
            "Use precision.dtype=float32 or bfloat16.",
        )


def make_learner(
    module: LocalModule,
    optimizer: OptimizerConfig,
    schedule: LrScheduleConfig,
    *,
    num_epochs: int,
    num_steps: int = 0,
    precision: Precision,
    device: torch.device,
    seed: int,
    task: Task,
) -> Learner:
    """Moves a module to its device and precision, and gives it an optimizer."""
    precision = precision.on(device)
    module.to(device, dtype=torch.float64 if precision.dtype == "float64" else torch.float32)
    if precision.channels_last:
        module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    is_on_cpu = device.type == "cpu"
    has_own_convolutions = is_on_cpu and replace_overrunning(module)
    built = build_optimizer(optimizer, module)
    if precision.compile:
        module.trunk.compile()
        module.objective.compile()
        module.cascade.compile()
    return Learner(
        *(module, built, optimizer.lr, schedule, num_epochs, num_steps, precision, device, seed, task),
        finite=FiniteLoss(precision.clip_norm),
        subsampled=Subsampled() if is_on_cpu else None,
        keeps_subsampled=has_own_convolutions or precision.compile,  # compiled code is made for the one or the other
    )


def set_lr_factor(module: nn.Module, factor: float) -> None:
    """Lets the weights of a part of a local module learn ``factor`` times as fast as the others."""
    for weight in module.parameters():
        weight.lr_factor = factor  # pyright: ignore[reportAttributeAccessIssue]


def build_optimizer(config: OptimizerConfig, module: nn.Module) -> torch.optim.Optimizer:
    """Builds the optimizer: one group for the weights that nothing is said of, and one for each kind of others.

    Weights may say ``no_weight_decay`` of themselves (RepL's scales), or an ``lr_factor`` (MAN's learnable bias); and
    the optimizer's own configuration may say that only matrices are decayed.
    """
    spared = _vectors_and_tables(module) if getattr(config, "decays", "all") == "matrices" else set()
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for weight in module.parameters():
        if weight.requires_grad:
            is_undecayed = getattr(weight, "no_weight_decay", False) or weight in spared
            kind = (is_undecayed, getattr(weight, "lr_factor", 1.0))
            groups.setdefault(kind, []).append(weight)
    (first, weights), *others = sorted(groups.items(), key=lambda item: item[0] != (False, 1.0))
    built = config.build(weights)
    built.param_groups[0].update(_group_options(*first))
    for kind, more in others:
        built.add_param_group({"params": more, **_group_options(*kind)})
    return built


def _vectors_and_tables(module: nn.Module) -> set[Tensor]:
    """Returns biases, the weights of normalisations, and embeddings."""
    tables: set[Tensor] = {part.weight for part in module.modules() if isinstance(part, nn.Embedding)}
    return tables | {weight for weight in module.parameters() if weight.dim() < 2}


def _group_options(is_undecayed: bool, lr_factor: float) -> dict[str, float]:
    return {"lr_factor": lr_factor, **({"weight_decay": 0.0} if is_undecayed else {})}
