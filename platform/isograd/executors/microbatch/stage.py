"""What one process of a pipeline that carries gradients does: torch's schedule for every batch, then the update.

It knows torch's process group, in which its index is its rank, but no Ray.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from isograd.data.field import Tree
from isograd.engine.loop import StageLoop
from isograd.engine.stage import record_epoch
from isograd.events.events import Event, Position, Snapshot, StageReport
from isograd.events.metrics import Meter
from isograd.executors.microbatch.handover import Handover
from isograd.executors.microbatch.piece import Abort, Piece, Stopwatch, make_schedule
from isograd.executors.microbatch.plan import PiecePlan
from isograd.local.learner import Learner
from isograd.local.message import Kind, Message
from isograd.local.state import check_state, load_state, state_of


@contextmanager
def unwrapping() -> Iterator[None]:
    """Raises what has ended one of torch's schedules as it was."""
    try:
        yield
    except Abort as abort:
        raise abort.cause from None


def shared(loss: Tensor, weight: int | Tensor, total: int | Tensor, num_parts: int) -> Tensor:
    """Returns the mean loss of one of ``num_parts`` parts so that the mean of all is the whole's, over all its terms.

    Parts of equal weight keep their loss to the bit; one without any term, whose mean is no number, adds nothing.

    Args:
        loss: Mean over ``weight`` terms.
        weight: Of this part.
        total: Of all parts.
        num_parts: M.
    """
    if not isinstance(weight, Tensor):
        exact = num_parts * weight == total
        return loss if exact else (loss if weight else loss.nan_to_num()) * (num_parts * weight / total)
    factor = (num_parts * weight.to(torch.float64) / total).to(loss.dtype)
    is_empty = (weight == 0) & torch.as_tensor(total != 0, device=loss.device)
    return torch.where(is_empty, torch.zeros_like(loss), loss * factor)


class MicrobatchStage(StageLoop):
    """The pieces of one process, and the loop over messages.

    Every stage gets the same messages. The first uses their inputs, the last their targets, and the others only what
    they ask for.

    Args:
        index: Position in the pipeline, s; also the rank.
        plan: Of the pipeline.
        learners: Of its pieces, in order.
        device: Of its pieces.
        event_interval_s: Least time between two progress events.
    """

    def __init__(
        self, index: int, plan: PiecePlan, learners: Sequence[Learner], device: torch.device, event_interval_s: float
    ) -> None:
        super().__init__(index, device, event_interval_s)
        self.plan, self._stopwatch, self._sent_bytes = plan, Stopwatch(), 0
        self.pieces = [
            Piece(piece, learner, plan.num_pieces, self._stopwatch)
            for piece, learner in zip(plan.pieces(index), learners, strict=True)
        ]
        self._meter = self._new_meter()
        self._weight: int | Tensor | None = None  # of the batch under way: known from its first microbatch on
        self._targets: Tree = {}
        self._handover = Handover(index, plan, self.pieces, device)
        self._schedules: dict[int, Any] = {}

    def _reset(self) -> None:
        super()._reset()
        self._stopwatch.busy_s, self._sent_bytes = 0.0, 0

    def _end(self) -> Iterator[Event]:
        self._handover.finish()
        return super()._end()

    def state(self) -> dict[str, Tensor]:
        """Returns the state of its pieces, the last one's running metrics included."""
        state: dict[str, Tensor] = {}
        for piece in self.pieces:
            state |= state_of(piece.learner)
        return state | {name: self._meter.state() for name in self._metrics_keys()}

    def check_state(self, state: dict[str, Tensor]) -> set[str]:
        """Returns the names in ``state`` that are this stage's. Raises CheckpointError where they do not fit."""
        own = set(self._metrics_keys())
        for piece in self.pieces:
            own |= check_state(piece.learner, state)
        return own

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Puts its pieces into a state that has been checked. What it lacks of optimizer and metrics begins anew."""
        for piece in self.pieces:
            load_state(piece.learner, state)
        self._meter = self._new_meter()
        for name in self._metrics_keys():
            if name in state:
                self._meter.load_state(state[name])

    @unwrapping()
    def _train(self, message: Message) -> None:
        self._set_training(True)
        schedule = self._schedule(message)
        for piece in self.pieces:
            piece.step = message.step
            piece.learner.set_lr(message)
        losses: list[Tensor] = []
        values = self.pieces[0].entering(message) if self.pieces[0].is_first else []
        self._targets = message.targets
        rows = {"target": torch.arange(message.size)} if self.pieces[-1].is_last else {}  # what torch hands to the loss
        schedule.step(*values, **rows, losses=losses, return_outputs=False)
        with self._stopwatch.computing():
            self._update(message, torch.stack(losses).detach().mean() if losses else None)
        self._sent_bytes += message.size * self._handover.sample_bytes
        self._stepped(message.size)

    def _update(self, message: Message, loss: Tensor | None) -> None:
        last = self.pieces[-1]
        if loss is not None and self._weight is not None:
            last.learner.finite.check(loss, last.module.name, message.step)
            self._meter.add(message.size, loss, self._weight, None, {})
            self._weight = None
        max_norm = last.learner.precision.clip_norm
        if max_norm:
            self._clip(max_norm)
        for piece in self.pieces:
            piece.learner.update_weights()

    def _clip(self, max_norm: float) -> None:
        """Scales the gradients of all stages by one number, so that their common norm is at most ``max_norm``."""
        weights = [weight for piece in self.pieces for weight in piece.weights()]
        square = get_total_norm([weight.grad for weight in weights if weight.grad is not None]).to(self.device) ** 2
        dist.all_reduce(square)
        clip_grads_with_norm_(weights, max_norm, square.sqrt())

    @unwrapping()
    @torch.no_grad()
    def _predict(self, message: Message) -> None:
        self._set_training(False)
        live = self._handover.forward(message)
        if live is not None:
            learner = self.pieces[-1].learner
            with learner.computing():
                prediction = learner.module.predict(live)
            self._meter.add(message.size, None, 0, prediction, message.targets)

    def _loss(self, output: Any, rows: Tensor) -> Tensor:
        """Returns the share of a microbatch in the batch's mean loss, times M, since torch's schedule divides by M; and
        measures its prediction.
        """
        piece, size = self.pieces[-1], rows.shape[0]
        microbatches = self._targets_by(size)
        targets = microbatches[int(rows[0]) // size]
        with self._stopwatch.computing():
            outcome = piece.outcome(output, targets)
            assert outcome.loss is not None
            if self._weight is None:
                with torch.no_grad():  # weights are the targets', whatever is predicted
                    self._weight = sum(piece.outcome(output, other).weight for other in microbatches)
            if outcome.prediction is not None:
                prediction = {name: value.detach() for name, value in outcome.prediction.items()}
                self._meter.measure(prediction, targets, size)
            loss = shared(outcome.loss, outcome.weight, self._weight, len(microbatches))
            return loss.clone()  # torch's zero-bubble schedules detach it in place, which no view can be

    def _targets_by(self, size: int) -> list[Tree]:
        """Returns the targets of all microbatches of ``size``."""
        split = {name: value.split(size) for name, value in self._targets.items()}
        return [dict(zip(split, values, strict=True)) for values in zip(*split.values(), strict=True)]

    def _schedule(self, message: Message) -> Any:
        size = message.size
        if size not in self._schedules:
            self._set_training(False)
            wires = self._handover.survey(message)
            self._set_training(True)
            self._schedules[size] = make_schedule(
                self.plan, self.pieces, wires, self._loss, size=size, device=self.device
            )
        return self._schedules[size]

    def _trained_parts(self) -> Iterator[nn.Module]:
        return iter(self.pieces)

    def _marker(self, message: Message) -> Iterator[Event]:
        for piece in self.pieces:
            piece.learner.finite.flush()
        if message.kind is Kind.SNAPSHOT:
            position = Position(message.epoch, message.number, message.step)
            yield self._report_so_far(position)
            yield Snapshot(0, position, self.state())
        elif message.kind in (Kind.EPOCH, Kind.EVALUATED) and self.pieces[-1].is_last:
            meter, self._meter = self._meter, self._new_meter()
            yield record_epoch(message, self.pieces[-1].module, meter)

    def _new_meter(self) -> Meter:
        return Meter(self.pieces[-1].learner.task, self.device)

    def _metrics_keys(self) -> list[str]:
        return [f"metrics.{piece.module.name}" for piece in self.pieces if piece.is_last]

    def _report(self) -> StageReport:
        elapsed_s, busy_s = time.perf_counter() - self._clock.started_s, self._stopwatch.busy_s
        wait_s = elapsed_s - busy_s
        return self._report_of(
            (0,), elapsed_s=elapsed_s, wait_s=wait_s, blocked_s=0.0, busy_s=busy_s, sent_bytes=self._sent_bytes
        )
