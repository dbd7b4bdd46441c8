"""Emulated devices: stages and pieces that sleep instead of computing, and move real tensors.

A machine with few cores can so show what a pipeline's transport and scheduling cost with many devices. A stage sleeps a
third of its time as its forward pass, sends its activation, and sleeps two thirds as its backward pass. Everything else
is the engine's own: stage loop, queues, sender threads, object store, events.

For pipelines that carry gradients, :class:`EmulatedPieces` emulates a network unit by unit. Half of its backward pass
is the gradient of the input and half that of the weights, which zero-bubble schedules take apart.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from isograd.channels.outbox import Nowhere
from isograd.data.field import Tree
from isograd.engine.stage import Stage
from isograd.local.action import Work
from isograd.local.learner import Learner, Precision, make_learner
from isograd.local.message import Message
from isograd.local.module import Given, LocalModule, Objective, Outcome
from isograd.local.optimizer import SGD, Constant
from isograd.local.recorder import make_recorder
from isograd.models.backbone import MAIN, Feature, Unit
from isograd.tasks.task import Form, Head, Metrics, Score, Task


class EmulatedStage(Stage):
    """A stage without local modules. What it sends is a tensor of ``activation_bytes``.

    Args:
        device: As whom it works and for how long.
    """

    def __init__(self, device: "EmulatedBuilder") -> None:
        recorder = make_recorder(device.timeline, torch.device("cpu"))
        super().__init__(
            device.index,
            [],
            Nowhere(),
            device=torch.device("cpu"),
            event_interval_s=device.event_interval_s,
            recorder=recorder,
        )
        self._emulated = device
        self._activation = torch.randn(device.activation_bytes // 4)

    def _train(self, message: Message) -> None:
        self._remember(message)
        self._sleep(Work.FORWARD, message, self._emulated.step_s / 3)
        with self.recorder.recording(Work.SEND, self.index, message.step):
            self._send(message.carrying({MAIN: self._activation}))
        self._sleep(Work.LOSS, message, self._emulated.auxiliary_s)
        self._sleep(Work.BACKWARD, message, 2 * self._emulated.step_s / 3)
        self._stepped(0)

    def _sleep(self, work: Work, message: Message, duration_s: float) -> None:
        with self.recorder.recording(work, self.index, message.step):
            time.sleep(duration_s)

    def state(self) -> dict[str, Tensor]:
        """Returns nothing: there are no weights."""
        return {}


@dataclass(frozen=True)
class EmulatedBuilder:
    """Builds an emulated stage in its actor.

    Attributes:
        index: Position in the pipeline, s.
        step_s: Time of a training step through its units.
        activation_bytes: Of what goes to the next stage.
        auxiliary_s: Time of its auxiliary network, after the send.
        timeline: How many of the newest steps it records.
        event_interval_s: Least time between two progress events.
    """

    index: int
    step_s: float
    activation_bytes: int
    auxiliary_s: float = 0.0
    timeline: int = 0
    event_interval_s: float = 0.5

    def __call__(self, device: torch.device) -> Stage:
        """Builds the stage."""
        return EmulatedStage(self)


@dataclass(frozen=True)
class EmulatedPieces:
    """Builds pieces of an emulated network. A :class:`~isograd.executors.microbatch.actor.PieceBuilder`.

    Attributes:
        unit_s: Time of a training step in each unit, for a whole batch: a third forward, two thirds backward.
        activation_bytes: What leaves each unit, for a whole batch; its gradient is as large.
        batch_size: Images of a whole batch, B; a microbatch takes and has its share.
    """

    unit_s: tuple[float, ...]
    activation_bytes: tuple[int, ...]
    batch_size: int

    @property
    def num_units(self) -> int:
        """Units of the network."""
        return len(self.unit_s)

    def __call__(self, pieces: Sequence[range], device: torch.device) -> list[Learner]:
        """Builds pieces; each has a single unit, which takes as long as all that it stands for."""
        return [self._learner(units, device) for units in pieces]

    def _learner(self, units: range, device: torch.device) -> Learner:
        last = units[-1]
        numel = max(self.activation_bytes[last] // 4 // self.batch_size, 1)
        module = EmulatedUnit(sum(self.unit_s[unit] for unit in units) / self.batch_size, numel)
        entering = MAIN if units.start else "image"
        unit = Unit(f"unit{last}", module, {MAIN: Feature((numel,), "NC")}, (entering,))
        return make_learner(
            LocalModule(0, [unit], EmulatedObjective(), entering=(entering,), leaving=(MAIN,)),
            SGD(lr=0.0),
            Constant(),
            num_epochs=1,
            precision=Precision(channels_last=False),
            device=device,
            seed=0,
            task=Unjudged(),
        )


class EmulatedUnit(nn.Module):
    """Sleeps, forward and backward, in proportion to the images that it gets.

    Args:
        image_s: Time of a training step for one image.
        numel: Elements of an image's activation.
    """

    def __init__(self, image_s: float, numel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self._image_s, self._numel = image_s, numel

    def forward(self, value: Tensor) -> Tensor:
        """Shapes: value (B, ...) -> (B, numel)."""
        third_s = self._image_s * value.shape[0] / 3
        # Autograd asks a node for all its gradients at once; so those of input and weights are nodes of their own.
        # The first piece has no gradient of its input, and takes all its time for that of its weights.
        found = _InputPart.apply(value, third_s, self._numel)
        return _Joined.apply(found, _WeightPart.apply(self.weight, third_s * (1 if value.requires_grad else 2)))


class Unmeasured(Metrics):
    """Measures nothing."""

    def measure(self, prediction: Tree, targets: Tree) -> Tensor:
        """Returns nothing to add."""
        return self.sums

    def compute(self) -> dict[str, float]:
        """Returns no metrics."""
        return {}


class Unjudged(Task):
    """The task of a network that computes nothing."""

    score = Score("none", "", higher_is_better=True)

    def __init__(self) -> None:
        super().__init__(None, {}, {})

    def head(self, live: Mapping[str, Feature], form: Form) -> Head:
        """Returns a head that predicts nothing."""
        return Head(nn.Identity(), (MAIN,), (MAIN,))

    def loss(self, prediction: Tree, targets: Tree) -> tuple[Tensor, int]:
        """Returns a loss of 0."""
        return torch.zeros(()), 0

    def metrics(self, device: torch.device) -> Metrics:
        """Returns what measures nothing."""
        return Unmeasured(0, device)


class EmulatedObjective(Objective):
    """A loss of 0, with a gradient of any value."""

    def forward(self, live: Tree, given: Given) -> Outcome:
        """Returns the loss. Shapes: main value (B, D)."""
        return Outcome(_Loss.apply(live[MAIN]), None, live[MAIN].shape[0])

    def predict(self, live: Tree) -> None:
        """Predicts nothing."""


class _InputPart(torch.autograd.Function):
    """Makes an activation, and a third of a step later backward, the gradient of its input."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, third_s: float, numel: int) -> Tensor:
        ctx.third_s, ctx.shape = third_s, value.shape
        time.sleep(third_s)
        return torch.empty(value.shape[0], numel, device=value.device)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        time.sleep(ctx.third_s)
        return gradients[0].new_empty(ctx.shape), None, None


class _WeightPart(torch.autograd.Function):
    """Takes time for the gradient of a weight."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, backward_s: float) -> Tensor:
        ctx.backward_s = backward_s
        return torch.zeros_like(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        time.sleep(ctx.backward_s)
        return gradients[0], None


class _Joined(torch.autograd.Function):
    """Lets one gradient go to both parts."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, weight: Tensor) -> Tensor:
        return value.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        return gradients[0], gradients[0].new_zeros(1)


class _Loss(torch.autograd.Function):
    """0, whatever the activation holds."""

    @staticmethod
    def forward(ctx: Any, feature: Tensor) -> Tensor:
        ctx.shape = feature.shape
        return feature.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].new_empty(ctx.shape)
