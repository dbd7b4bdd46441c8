"""What stages hand each other apart from torch's schedules: what their cuts look like, and batches to predict."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from isograd.data.field import Tree
from isograd.executors.microbatch.piece import Piece, Wires, wires_of
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
        self._wires: list[tuple[Wires, Wires]] = []
        self._sending: list[tuple[dist.Work, Tensor]] = []

    @torch.no_grad()
    def survey(self, message: Message) -> list[tuple[Wires, Wires]]:
        """Returns what enters and what leaves each piece.

        Found out once, by a sample of zeros that all stages run in turn; pieces must be in evaluation mode.
        """
        if self._wires:
            return self._wires
        leaving = wires_of([message.values[name] for name in self._pieces[0].module.entering if name in message.values])
        for piece in self._pieces:
            entering = leaving if self._is_local(piece.index - 1) else self._receive_wires(piece.index - 1)
            samples = [wire.empty(1, self._device).zero_() for wire in entering]
            with piece.stopwatch.computing():
                leaving = wires_of(piece.values(piece(*samples)))
            self._wires.append((entering, leaving))
            if not self._is_local(piece.index + 1):
                dist.send_object_list([leaving], self._plan.stage_of(piece.index + 1), device=self._device)
        return self._wires

    @torch.no_grad()
    def forward(self, message: Message) -> Tree | None:
        """Runs a batch through the pieces, whole: microbatches gain nothing where no stage waits for a gradient.

        Returns:
            What leaves the last piece, by name; None in stages that do not have it.
        """
        values: Sequence[Tensor] = ()
        for piece, (entering, _) in zip(self._pieces, self.survey(message), strict=True):
            if piece.is_first:
                values = piece.entering(message)
            elif not self._is_local(piece.index - 1):
                values = self._receive(entering, message.size, self._plan.stage_of(piece.index - 1))
            with piece.stopwatch.computing():
                values = piece.values(piece(*values))
            if not self._is_local(piece.index + 1):
                self._send(values, self._plan.stage_of(piece.index + 1))
        last = self._pieces[-1]
        return dict(zip(last.module.leaving, values, strict=True)) if last.is_last else None

    def finish(self) -> None:
        """Returns once everything has arrived."""
        while self._sending:
            self._sending.pop()[0].wait()

    @property
    def sample_bytes(self) -> int:
        """What this stage sends for a sample in training: activations down, gradients up."""
        return sum(
            sum(wire.numel_bytes for wire in (() if self._is_local(piece.index + 1) else leaving))
            + sum(wire.numel_bytes for wire in (() if self._is_local(piece.index - 1) else entering))
            for piece, (entering, leaving) in zip(self._pieces, self._wires, strict=True)
        )

    def _is_local(self, piece: int) -> bool:
        """Whether a piece is in this process, or is none: before the first or after the last."""
        return not 0 <= piece < self._plan.num_pieces or self._plan.stage_of(piece) == self._index

    def _receive_wires(self, piece: int) -> Wires:
        received: list[Any] = [None]
        dist.recv_object_list(received, self._plan.stage_of(piece), device=self._device)
        return received[0]

    def _receive(self, wires: Wires, size: int, stage: int) -> list[Tensor]:
        """Returns what a stage sends of ``size`` samples, of other lengths than the survey's if they are so."""
        lengths = torch.empty(sum(len(wire.shape) for wire in wires), dtype=torch.int64, device=self._device)
        dist.recv(lengths, stage)
        shapes = lengths.split([len(wire.shape) for wire in wires])
        values = [
            torch.empty(size, *shape.tolist(), dtype=wire.dtype, device=self._device)
            for wire, shape in zip(wires, shapes, strict=True)
        ]
        for value in values:
            dist.recv(value, stage)
        return values

    def _send(self, values: Sequence[Tensor], stage: int) -> None:
        """Begins to send shapes and values, once what was sent before has arrived."""
        self.finish()
        lengths = [length for value in values for length in value.shape[1:]]
        for value in (torch.tensor(lengths, device=self._device), *values):
            work = dist.isend(value, stage)
            if work is not None:
                self._sending.append((work, value))
