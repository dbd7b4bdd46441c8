"""The step: the one function by which every executor trains a local module."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from isograd.errors import ConfigError, ContractError
from isograd.local.message import Message
from isograd.local.module import LocalModule, Outcome
from isograd.local.nonfinite import FiniteLoss
from isograd.local.optimizer import OptimizerConfig, ScheduleConfig
from isograd.seeding import reseed
from isograd.tasks.task import Task

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


@dataclass
class Precision:
    """How a local module computes. Everything here holds per module, so it does not depend on the executor.

    Attributes:
        dtype: ``float32``; ``bfloat16`` (autocast: weights stay float32, activations between modules are bfloat16);
            ``float64`` for comparisons with released code.
        channels_last: Convolution weights and activations in NHWC memory order.
        compile: torch.compile for the units and for the objective of each module.
        clip_norm: Largest norm of a local module's gradient; 0 switches clipping off.
    """

    dtype: str = "float32"
    channels_last: bool = False
    compile: bool = False
    clip_norm: float = 0.0


@dataclass
class Learner:
    """A local module with all it needs to take a step.

    Attributes:
        module: On ``device``, prepared by :func:`make_learner`.
        num_epochs: Length of the run, for the schedule.
        task: Counts what the module's head predicts rightly.
        seed: Of the run; dropout draws from the stream (seed, "noise", step, module).
    """

    module: LocalModule
    optimizer: torch.optim.Optimizer
    peak_lr: float
    schedule: ScheduleConfig
    num_epochs: int
    precision: Precision
    device: torch.device
    seed: int
    task: Task
    finite: FiniteLoss = field(default_factory=FiniteLoss)

    def autocast(self) -> torch.autocast:
        """Returns the context in which the forward pass and the loss run."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision.dtype == "bfloat16")

    def input(self, message: Message) -> Tensor:
        """Returns the module's input in the memory order that its convolutions expect."""
        value = message.value
        assert value is not None
        if self.precision.channels_last and value.dim() == 4:
            value = value.contiguous(memory_format=torch.channels_last)
        return value


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
    schedule: ScheduleConfig,
    *,
    num_epochs: int,
    precision: Precision,
    device: torch.device,
    seed: int,
    task: Task,
) -> Learner:
    """Moves a module to its device and precision, and gives it an optimizer."""
    module.to(device, dtype=torch.float64 if precision.dtype == "float64" else torch.float32)
    if precision.channels_last:
        module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    built = optimizer.build([weight for weight in module.parameters() if weight.requires_grad])
    if precision.compile:
        module.trunk.compile()
        module.objective.compile()
    return Learner(module, built, optimizer.lr, schedule, num_epochs, precision, device, seed, task)


def train_step(learner: Learner, message: Message, send: Callable[[Tensor], None]) -> Outcome:
    """Forward, hand over the activation, local loss, backward, update.

    ``send`` gets h_k as soon as it exists, before the loss: the next module sees the activation of the weights before
    this step's update, in every executor.

    Args:
        learner: The module and its optimizer.
        message: A batch, on the learner's device.
        send: Takes the detached activation, (B, ...). It may read it until the step's end, hence the guard below.

    Raises:
        NonFiniteLossError: The loss is NaN or infinite; nothing was updated on the CPU (on a GPU, this is noticed some
            steps later).
        ContractError: The units or the objective changed an activation in place.
    """
    module, value, target = learner.module, learner.input(message), message.target
    assert target is not None
    _set_lr(learner, message.epoch)
    reseed(learner.device, learner.seed, "noise", message.step, module.name)
    input_version = value._version
    with learner.autocast():
        feature = module(value)
    output = feature.detach()
    output_version = output._version
    send(output)
    with learner.autocast():
        outcome = module.objective(feature, target, message.pixels)
    outcome.loss.backward()
    if value._version != input_version or output._version != output_version:
        raise _changed_in_place(module, "its input" if value._version != input_version else "its output")
    learner.finite.check(outcome.loss.detach(), module.name, message.step)
    if learner.precision.clip_norm:
        torch.nn.utils.clip_grad_norm_(module.parameters(), learner.precision.clip_norm)
    learner.optimizer.step()
    learner.optimizer.zero_grad(set_to_none=True)
    prediction = None if outcome.prediction is None else outcome.prediction.detach()
    return Outcome(outcome.loss.detach(), prediction)


@torch.no_grad()
def predict_step(learner: Learner, message: Message, send: Callable[[Tensor], None]) -> Tensor | None:
    """Forward without gradient; the module must be in evaluation mode.

    Returns:
        The module's prediction, (B, Y), or None where its auxiliary network makes none.
    """
    with learner.autocast():
        feature = learner.module(learner.input(message))
        send(feature)
        return learner.module.objective.predict(feature)


def _set_lr(learner: Learner, epoch: int) -> None:
    lr = learner.schedule.lr(learner.peak_lr, epoch, learner.num_epochs)
    for group in learner.optimizer.param_groups:
        group["lr"] = lr


def _changed_in_place(module: LocalModule, what: str) -> ContractError:
    return ContractError(
        f"local module {module.index} (units {module.unit_names[0]} to {module.name}) changed {what} in place",
        "Another module reads the same memory, so the result would depend on timing",
        "Use the out-of-place form of its first operation (inplace=False), or cut elsewhere.",
    )
