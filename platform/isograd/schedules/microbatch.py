"""The schedules of end-to-end pipelines over microbatches, with a flush after every batch.

GPipe (Huang et al. 2019), 1F1B (PipeDream-flush, Narayanan et al. 2021), interleaved 1F1B (Megatron-LM, Narayanan et
al. 2021) and zero bubble (ZB-H1, Qi et al. 2024), in the order in which torch.distributed.pipelining takes the actions.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from isograd.errors import ConfigError
from isograd.local.action import Action, Work
from isograd.registry import Registry
from isograd.schedules.schedule import Need, Schedule, Writer, input_of


@dataclass(frozen=True)
class Grid:
    """An end-to-end pipeline.

    Attributes:
        num_stages: S, devices.
        num_microbatches: M.
        chunks: V, pieces that each device hosts; piece p is on device p mod S.
        piece_bytes: Of the activation, or its gradient, that a microbatch sends between two pieces.
    """

    num_stages: int
    num_microbatches: int
    chunks: int = 1
    piece_bytes: int = 0

    @property
    def num_pieces(self) -> int:
        """S times V."""
        return self.num_stages * self.chunks


Order = Iterator[tuple[Work, int, int]]  # work, piece, microbatch


def gpipe(grid: Grid, rank: int) -> Order:
    """All forward passes, then all backward passes."""
    for work in (Work.FORWARD, Work.BACKWARD):
        for microbatch in range(grid.num_microbatches):
            yield work, rank, microbatch


def one_forward_one_backward(grid: Grid, rank: int) -> Order:
    """Forward passes until the first gradient can come, then one backward for each forward."""
    return _interleaved(grid, rank, min(grid.num_microbatches, grid.num_stages - rank), Work.BACKWARD)


def interleaved(grid: Grid, rank: int) -> Order:
    """1F1B over several pieces a device, in groups of S microbatches."""
    return _interleaved(grid, rank, _warm_up(grid, rank), Work.BACKWARD)


def zero_bubble(grid: Grid, rank: int) -> Order:
    """1F1B that puts off weight gradients: as many as fit into what would be bubbles, later devices more of them."""
    pending: list[tuple[int, int]] = []
    lead = rank
    for work, piece, microbatch in _interleaved(grid, rank, _warm_up(grid, rank), Work.INPUT_GRADIENT):
        yield work, piece, microbatch
        if work is Work.INPUT_GRADIENT:
            pending.append((piece, microbatch))
            if lead:
                lead -= 1
            else:
                yield Work.WEIGHT_GRADIENT, *pending.pop(0)
    for piece, microbatch in pending:
        yield Work.WEIGHT_GRADIENT, piece, microbatch


@dataclass(frozen=True)
class PipelineSchedule:
    """What a schedule is called elsewhere, how it can be simulated, and what it asks of the pieces.

    Attributes:
        torch_name: Its class in :mod:`torch.distributed.pipelining`.
        order: Of a device's actions; None: it is run, but not simulated.
        least_chunks: Fewest pieces a stage, V; the default.
        most_chunks: Most pieces a stage; None: no limit.
        is_v: Whether pieces run down the stages and up again, not round and round.
        splits_backward: Whether the gradient of the weights is computed apart from the input's, later.
    """

    torch_name: str
    order: Callable[[Grid, int], Order] | None = None
    least_chunks: int = 1
    most_chunks: int | None = 1
    is_v: bool = False
    splits_backward: bool = False


PIPELINE_SCHEDULES = {
    "1f1b": PipelineSchedule("Schedule1F1B", one_forward_one_backward),
    "gpipe": PipelineSchedule("ScheduleGPipe", gpipe),
    "interleaved": PipelineSchedule("ScheduleInterleaved1F1B", interleaved, least_chunks=2, most_chunks=None),
    "zero_bubble": PipelineSchedule(
        "ScheduleInterleavedZeroBubble", zero_bubble, most_chunks=None, splits_backward=True
    ),
    "zbv": PipelineSchedule("ScheduleZBVZeroBubble", least_chunks=2, most_chunks=2, is_v=True, splits_backward=True),
}

MICROBATCH_SCHEDULES: Registry[Callable[[Grid, int], Order]] = Registry("microbatch schedule")
for _name, _schedule in PIPELINE_SCHEDULES.items():
    if _schedule.order is not None:
        MICROBATCH_SCHEDULES.add(_name, _schedule.order)


def microbatched(name: str, grid: Grid, num_batches: int) -> Schedule:
    """Returns the schedule called ``name``: its pieces are the actions' modules, its microbatches their parts.

    Raises:
        UnknownNameError: There is no such schedule.
        ConfigError: Pieces cannot be interleaved over this number of microbatches.
    """
    order = MICROBATCH_SCHEDULES.get(name)
    if grid.chunks > 1 and grid.num_microbatches % grid.num_stages:
        raise ConfigError(
            f"{grid.num_microbatches} microbatches cannot be interleaved over {grid.num_stages} stages",
            "They go round in groups of as many as there are stages",
            f"Use a multiple of {grid.num_stages}.",
        )
    writer = Writer(grid.num_stages)
    for step in range(num_batches):
        for rank in range(grid.num_stages):
            if rank == 0:
                writer.add(0, input_of(step))
            for work, piece, microbatch in order(grid, rank):
                writer.add(rank, Action(work, piece, step, microbatch), _needs(grid, work, piece, step, microbatch))
            for piece in range(rank, grid.num_pieces, grid.num_stages):
                writer.add(rank, Action(Work.UPDATE, piece, step))
    return writer.schedule(f"{name}, M={grid.num_microbatches}", num_batches)


def _needs(grid: Grid, work: Work, piece: int, step: int, microbatch: int) -> tuple[Need, ...]:
    """A forward pass waits for the piece before, a gradient for the one after."""
    if work is Work.FORWARD and piece:
        return (Need(Action(Work.FORWARD, piece - 1, step, microbatch), num_bytes=grid.piece_bytes),)
    if work in (Work.BACKWARD, Work.INPUT_GRADIENT) and piece < grid.num_pieces - 1:
        return (Need(Action(work, piece + 1, step, microbatch), num_bytes=grid.piece_bytes),)
    return ()


def _warm_up(grid: Grid, rank: int) -> int:
    """How many forward passes a device runs before its first backward pass, interleaved."""
    total = grid.num_microbatches * grid.chunks
    if grid.chunks == 1:
        return min(total, grid.num_stages - rank)
    return min(total, (grid.chunks - 1) * grid.num_stages + 2 * (grid.num_stages - 1 - rank) + 1)


def _interleaved(grid: Grid, rank: int, warm_up: int, backward: Work) -> Order:
    total = grid.num_microbatches * grid.chunks
    for index in range(warm_up):
        yield Work.FORWARD, *_forward(grid, rank, index)
    for index in range(total):
        yield backward, *_backward(grid, rank, index)
        if warm_up + index < total:
            yield Work.FORWARD, *_forward(grid, rank, warm_up + index)


def _forward(grid: Grid, rank: int, index: int) -> tuple[int, int]:
    """Returns the piece and the microbatch of a device's ``index``-th forward pass."""
    group, within = divmod(index, grid.num_stages * grid.chunks)
    chunk, microbatch = divmod(within, grid.num_stages)
    if grid.chunks == 1:
        return rank, index
    return rank + grid.num_stages * chunk, group * grid.num_stages + microbatch


def _backward(grid: Grid, rank: int, index: int) -> tuple[int, int]:
    """Returns the piece and the microbatch of a device's ``index``-th backward pass: last pieces first."""
    piece, microbatch = _forward(grid, rank, index)
    chunk = piece // grid.num_stages
    return rank + grid.num_stages * (grid.chunks - 1 - chunk), microbatch
