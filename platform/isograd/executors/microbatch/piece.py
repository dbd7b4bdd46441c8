"""A slice of the network between two cuts, as torch's pipeline schedules run it.

:mod:`torch.distributed.pipelining` brings the schedules and the transport of activations and gradients; this file
brings what they run, how long it takes, and a way out of them when it fails.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import pipelining
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import PipelineScheduleMulti

from isograd.data.field import Tree
from isograd.executors.microbatch.plan import PiecePlan
from isograd.local.learner import Learner
from isograd.local.message import Message
from isograd.local.module import Given, Outcome
from isograd.schedules.microbatch import PIPELINE_SCHEDULES
from isograd.seeding import reseed


class Abort(BaseException):
    """Takes an exception out of a schedule of torch.

    No :class:`Exception`, because the schedules catch those, print themselves and wait for their neighbours, who wait
    for them.

    Attributes:
        cause: What was raised.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


class Stopwatch:
    """Adds up the time that a stage computes, in seconds."""

    def __init__(self) -> None:
        self.busy_s = 0.0

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Counts a block's time; what it raises ends the schedule at once."""
        started_s = time.perf_counter()
        try:
            yield
        except Exception as error:
            raise Abort(_inner(error)) from error
        finally:
            self.busy_s += time.perf_counter() - started_s


@dataclass(frozen=True)
class Wire:
    """What crosses a cut, for one sample.

    Attributes:
        shape: Without the batch axis.
        dtype: Of activation and gradient.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype

    @staticmethod
    def of(value: Tensor) -> "Wire":
        """Returns what a batch's samples look like."""
        return Wire(tuple(value.shape[1:]), value.dtype)

    @property
    def numel_bytes(self) -> int:
        """Bytes of one sample."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    def empty(self, size: int, device: torch.device) -> Tensor:
        """Returns memory for a batch of ``size``."""
        return torch.empty(size, *self.shape, dtype=self.dtype, device=device)


Wires = tuple[Wire, ...]


def wires_of(values: Sequence[Tensor]) -> Wires:
    """Returns what a batch's samples look like, value by value."""
    return tuple(Wire.of(value) for value in values)


class Piece(nn.Module):
    """Consecutive units of a network that is trained end to end, with their optimizer.

    Args:
        index: Position among the S V pieces.
        learner: Of its units; the last piece's has the loss.
        num_pieces: S V.
        stopwatch: Of the stage that hosts it.
    """

    def __init__(self, index: int, learner: Learner, num_pieces: int, stopwatch: Stopwatch) -> None:
        super().__init__()
        self.index, self.num_pieces, self.learner, self.stopwatch = index, num_pieces, learner, stopwatch
        self.module = learner.module
        self.step = 0

    @property
    def is_first(self) -> bool:
        """Whether it gets the images."""
        return self.index == 0

    @property
    def is_last(self) -> bool:
        """Whether it gets the targets."""
        return self.index == self.num_pieces - 1

    @property
    def channels_last(self) -> bool:
        """Whether images and activations are in NHWC memory order."""
        return bool(self.learner.precision.channels_last)

    def entering(self, message: Message) -> list[Tensor]:
        """Returns what a batch brings to the first piece, in the order of its arguments."""
        values = self.learner.entering(message)
        return [values[name] for name in self.module.entering]

    def forward(self, *values: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Runs the units.

        Args:
            values: What enters, in the order of ``module.entering``: the inputs for the first piece, else as the piece
                before returned them.

        Returns:
            What leaves, in the order of ``module.leaving``, as it is sent: without gaps, (B, H, W, C) where maps are in
            NHWC memory order. One tensor by itself where it is one.
        """
        if not self.is_first:
            values = tuple(_Received.apply(value, self.channels_last) for value in values)
        with self.learner.computing():
            live = self.module(dict(zip(self.module.entering, values, strict=True)))
        leaving = [live[name] for name in self.module.leaving]
        if not self.is_last:
            leaving = [_Sent.apply(value, self.channels_last) for value in leaving]
        return leaving[0] if len(leaving) == 1 else tuple(leaving)

    @staticmethod
    def values(output: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Returns what :meth:`forward` returned as a tuple, also where it is one tensor."""
        return output if isinstance(output, tuple) else (output,)

    def draw_noise(self, microbatch: int) -> None:
        """Begins the stream of random numbers from which dropout draws for a microbatch."""
        learner = self.learner
        reseed(learner.device, learner.seed, "noise", self.step, self.module.name, microbatch)

    def outcome(self, output: Tensor | tuple[Tensor, ...], targets: Tree) -> Outcome:
        """Returns what the last piece's objective says of a microbatch.

        Args:
            output: What the last piece returned.
            targets: Of the microbatch.
        """
        live = dict(zip(self.module.leaving, self.values(output), strict=True))
        with self.learner.computing():
            return self.module.objective(live, Given(targets))

    def weights(self) -> list[nn.Parameter]:
        """Returns what is trained and has a gradient."""
        return [weight for weight in self.module.parameters() if weight.grad is not None]


class _Received(torch.autograd.Function):
    """Lays a received activation out for the units, and its gradient for sending.

    What comes out is no leaf of the graph, so that a unit may change it in place.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, channels_last: bool) -> Tensor:
        ctx.is_permuted = channels_last and value.dim() == 4
        return (value.permute(0, 3, 1, 2) if ctx.is_permuted else value).detach()  # (B, C, H, W)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _packed(gradients[0], ctx.is_permuted), None


class _Sent(torch.autograd.Function):
    """Lays an activation out for sending, and its received gradient for the units.

    What comes out is no view, since torch's schedules detach it in place.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, channels_last: bool) -> Tensor:
        ctx.is_permuted = channels_last and value.dim() == 4
        return _packed(value, ctx.is_permuted).detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].permute(0, 3, 1, 2) if ctx.is_permuted else gradients[0], None


def _packed(value: Tensor, is_permuted: bool) -> Tensor:
    """Returns (B, C, H, W) as (B, H, W, C) if asked, without gaps in memory: gloo sends nothing else."""
    return (value.permute(0, 2, 3, 1) if is_permuted else value).contiguous()


class _TimedStage(PipelineStage):
    """A piece in one of torch's schedules; torch calls a piece a stage."""

    submod: Piece

    def forward_one_chunk(self, fwd_chunk_id: int, *args: Any, **kwargs: Any) -> Any:
        """Runs a microbatch forward."""
        with self.submod.stopwatch.computing():
            self.submod.draw_noise(fwd_chunk_id)
            return super().forward_one_chunk(fwd_chunk_id, *args, **kwargs)

    def backward_one_chunk(self, *args: Any, **kwargs: Any) -> None:
        """Runs a microbatch backward, or only to its input."""
        with self.submod.stopwatch.computing():
            super().backward_one_chunk(*args, **kwargs)

    def backward_weight_one_chunk(self, *args: Any, **kwargs: Any) -> None:
        """Runs the rest of a microbatch's backward pass."""
        with self.submod.stopwatch.computing():
            super().backward_weight_one_chunk(*args, **kwargs)


def make_schedule(
    plan: PiecePlan,
    pieces: Sequence[Piece],
    wires: Sequence[tuple[Wires, Wires]],
    loss: Callable[[Any, Tensor], Tensor],
    *,
    size: int,
    device: torch.device,
) -> Any:
    """Returns torch's schedule for batches of ``size``, with this stage's pieces in it.

    Args:
        plan: Of the pipeline.
        pieces: Of this stage, in order.
        wires: What enters and what leaves each of them.
        loss: Mean loss of a microbatch, of what the last piece returned and its rows in the batch.
        size: Samples a batch, B.
        device: Of the pieces.
    """
    num_microbatches = plan.microbatches_of(size)
    stages = []
    for piece, (entering, leaving) in zip(pieces, wires, strict=True):
        entry, exit_ = (_blank(side, size // num_microbatches) for side in (entering, leaving))
        stages.append(_TimedStage(piece, piece.index, plan.num_pieces, device, input_args=entry, output_args=exit_))
    schedule = getattr(pipelining, PIPELINE_SCHEDULES[plan.schedule_of(num_microbatches)].torch_name)
    hosted = stages if issubclass(schedule, PipelineScheduleMulti) else stages[0]
    return schedule(hosted, num_microbatches, loss_fn=loss)


def _blank(wires: Wires, size: int) -> tuple[Tensor, ...]:
    """Returns tensors without memory of what crosses a cut, for torch to learn shapes from."""
    blanks = (wire.empty(size, torch.device("meta")) for wire in wires)
    return tuple(blank.requires_grad_(blank.is_floating_point()) for blank in blanks)


def _inner(error: Exception) -> Exception:
    """Returns what torch wraps into a RuntimeError with a print of all tensors."""
    cause = error.__cause__
    return cause if type(error) is RuntimeError and isinstance(cause, Exception) else error
