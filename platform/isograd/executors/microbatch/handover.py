"""What stages hand each other apart from torch's schedules: what their cuts look like, and batches to predict."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from isograd.executors.microbatch.piece import Piece, Wire
from isograd.executors.microbatch.plan import PiecePlan
from isograd.local.message import Message


class Handover:
    """The links of a stage to those before and after its pieces.

    Args:
        index: Of the stage, s; also the rank.
        plan: Of the pipeline.
        pieces: Of the stage, in order.
        device: Of the pieces.
    """

    def __init__(self, index: int, plan: PiecePlan, pieces: Sequence[Piece], device: torch.device) -> None:
        self._index, self._plan, self._pieces, self._device = index, plan, pieces, device
        self._wires: list[tuple[Wire, Wire]] = []
        self._sending: list[tuple[dist.Work, Tensor]] = []

    @torch.no_grad()
    def survey(self, message: Message) -> list[tuple[Wire, Wire]]:
        """Returns what enters and what leaves each piece.

        Found out once, by a sample of zeros that all stages run in turn; pieces must be in evaluation mode.
        """
        if self._wires or message.value is None:
            return self._wires
        leaving = Wire.of(message.value)
        for piece in self._pieces:
            entering = leaving if self._is_local(piece.index - 1) else self._received_wire(piece.index - 1)
            sample = entering.empty(1, self._device).zero_()
            with piece.stopwatch.computing():
                leaving = Wire.of(piece(sample))
            self._wires.append((entering, leaving))
            if not self._is_local(piece.index + 1):
                dist.send_object_list([leaving], self._plan.stage_of(piece.index + 1), device=self._device)
        return self._wires

    @torch.no_grad()
    def forward(self, message: Message) -> Tensor | None:
        """Runs a batch through the pieces, whole: microbatches gain nothing where no stage waits for a gradient.

        Returns:
            What leaves the last piece, (B, ...); None in stages that do not have it.
        """
        assert message.value is not None and message.target is not None
        size, found = message.target.shape[0], message.value
        for piece, (entering, _) in zip(self._pieces, self.survey(message), strict=True):
            if piece.is_first:
                found = piece.learner.input(message)
            elif not self._is_local(piece.index - 1):
                found = entering.empty(size, self._device)
                dist.recv(found, self._plan.stage_of(piece.index - 1))
            with piece.stopwatch.computing():
                found = piece(found)
            if not self._is_local(piece.index + 1):
                self._send(found, self._plan.stage_of(piece.index + 1))
        return found if self._pieces[-1].is_last else None

    def finish(self) -> None:
        """Returns once everything has arrived."""
        while self._sending:
            self._sending.pop()[0].wait()

    @property
    def bytes_an_image(self) -> int:
        """What this stage sends for an image in training: activations down, gradients up."""
        return sum(
            (0 if self._is_local(piece.index + 1) else leaving.numel_bytes)
            + (0 if self._is_local(piece.index - 1) else entering.numel_bytes)
            for piece, (entering, leaving) in zip(self._pieces, self._wires, strict=True)
        )

    def _is_local(self, piece: int) -> bool:
        """Whether a piece is in this process, or is none: before the first or after the last."""
        return not 0 <= piece < self._plan.num_pieces or self._plan.stage_of(piece) == self._index

    def _received_wire(self, piece: int) -> Wire:
        found: list[Any] = [None]
        dist.recv_object_list(found, self._plan.stage_of(piece), device=self._device)
        return found[0]

    def _send(self, value: Tensor, stage: int) -> None:
        """Begins to send, once what was sent before has arrived."""
        self.finish()
        work = dist.isend(value, stage)
        if work is not None:
            self._sending.append((work, value))
