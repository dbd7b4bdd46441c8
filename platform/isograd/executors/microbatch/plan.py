"""How a network is spread over a pipeline that carries gradients: a schedule, M microbatches, and S V slices of units.

Nothing here runs or imports torch; :mod:`isograd.executors.microbatch.piece` has the schedules themselves.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from isograd.errors import ConfigError, PartitionError
from isograd.executors.microbatch.config import MicrobatchConfig
from isograd.partition.partition import even_split
from isograd.schedules.microbatch import PIPELINE_SCHEDULES


@dataclass(frozen=True)
class PiecePlan:
    """Which stage hosts which units, and how batches go through them.

    Attributes:
        schedule: A key of :data:`~isograd.schedules.microbatch.PIPELINE_SCHEDULES`.
        num_microbatches: M, of a full batch.
        num_stages: S.
        ends: For each of the S V pieces the position after its last unit; increasing.

    Raises:
        ConfigError: The schedule cannot have so many pieces, or so few microbatches.
        PartitionError: The ends do not cut a network.
    """

    schedule: str
    num_microbatches: int
    num_stages: int
    ends: tuple[int, ...]

    def __post_init__(self) -> None:
        if not all(first < second for first, second in itertools.pairwise((0, *self.ends))):
            raise PartitionError(
                f"cannot cut a network after units {list(self.ends)}",
                "Ends must increase, so that each piece has at least one unit",
                "Use executor.units_per_piece=null for an even cut.",
            )
        self._check_chunks()
        self._check_num_microbatches()

    @property
    def num_pieces(self) -> int:
        """S V."""
        return len(self.ends)

    @property
    def chunks(self) -> int:
        """V, pieces a stage."""
        return self.num_pieces // self.num_stages

    def units(self, piece: int) -> range:
        """Returns the positions of a piece's units."""
        return range(self.ends[piece - 1] if piece else 0, self.ends[piece])

    def pieces(self, stage: int) -> tuple[int, ...]:
        """Returns the pieces of a stage, in order: s, s + S, ...; or s and 2 S - 1 - s under a V-shaped schedule."""
        return tuple(piece for piece in range(self.num_pieces) if self.stage_of(piece) == stage)

    def stage_of(self, piece: int) -> int:
        """Returns the stage that hosts a piece."""
        turn, place = divmod(piece, self.num_stages)
        return self.num_stages - 1 - place if PIPELINE_SCHEDULES[self.schedule].is_v and turn % 2 else place

    def microbatches_of(self, size: int) -> int:
        """Returns into how many equal parts a batch is split.

        M; for a smaller last batch that M does not divide, the largest number up to M that does and that the schedule
        can have, but not so large that BatchNorm would see single samples.
        """
        if size % self.num_microbatches == 0:
            return self.num_microbatches
        divisors = [parts for parts in range(2, self.num_microbatches) if size % parts == 0 and parts < size]
        return max((parts for parts in divisors if self._accepts(parts)), default=1)

    def schedule_of(self, num_microbatches: int) -> str:
        """Returns the schedule for a batch of so many parts: 1F1B cannot have fewer than S, and is GPipe then."""
        is_short = self.schedule == "1f1b" and num_microbatches < self.num_stages
        return "gpipe" if is_short else self.schedule

    def check_batch_size(self, batch_size: int) -> None:
        """Raises ConfigError where a full batch cannot be split into M equal parts."""
        asked = self.num_microbatches
        if batch_size % asked:
            fewer = max(parts for parts in range(1, asked) if batch_size % parts == 0)
            raise ConfigError(
                f"data.batch_size={batch_size} cannot be split into {asked} equal microbatches",
                "Their losses are averaged, so that a smaller one would weigh too much",
                f"Use executor.num_microbatches={fewer}, or data.batch_size={-(-batch_size // asked) * asked}.",
            )

    def _accepts(self, num_microbatches: int) -> bool:
        """Whether torch's schedule takes M; gpipe and zbv take any."""
        if self.schedule == "1f1b":
            return num_microbatches >= self.num_stages
        if self.schedule in ("interleaved", "zero_bubble"):
            return num_microbatches % max(1, num_microbatches // self.num_stages) == 0
        return True

    def _check_chunks(self) -> None:
        found = PIPELINE_SCHEDULES[self.schedule]
        least, most = found.least_chunks, found.most_chunks
        if self.num_pieces % self.num_stages or self.chunks < least or (most is not None and self.chunks > most):
            raise ConfigError(
                f"{self.num_stages} stages with {self.num_pieces / self.num_stages:g} pieces each do not go with "
                f"executor.schedule={self.schedule}",
                f"It has {least if most == least else f'at least {least}'} a stage",
                "Leave executor.chunks out, or use executor.schedule=interleaved or zero_bubble.",
            )

    def _check_num_microbatches(self) -> None:
        asked = self.num_microbatches
        if self._accepts(asked):
            return
        better = next(number for number in range(asked, asked + self.num_stages + 1) if self._accepts(number))
        raise ConfigError(
            f"executor.num_microbatches={asked} does not go with executor.schedule={self.schedule} and "
            f"{self.num_stages} stages",
            "1F1B fills every stage with a microbatch at the start"
            if self.schedule == "1f1b"
            else f"Microbatches come in {max(1, asked // self.num_stages)} equal rounds",
            f"Use executor.num_microbatches={better}, or executor.schedule=gpipe.",
        )


def plan_pieces(
    config: MicrobatchConfig,
    num_units: int,
    *,
    num_stages: int | None = None,
    ends: Sequence[int] | None = None,
) -> PiecePlan:
    """Returns the plan of an executor's options.

    Args:
        config: Names the schedule, M and V.
        num_units: Of the network.
        num_stages: S; default: the configuration's, or 2.
        ends: For each piece the position after its last unit; default: as the options say, or else as many units in
            each as in every other.

    Raises:
        ConfigError: The schedule does not go with the numbers.
        PartitionError: There are more pieces than units, or the ends do not fit.
    """
    stages = num_stages if num_stages is not None else 2 if config.num_stages is None else config.num_stages
    chunks = PIPELINE_SCHEDULES[config.schedule].least_chunks if config.chunks is None else config.chunks
    num_pieces = stages * chunks
    if not 1 <= num_pieces <= num_units:
        raise PartitionError(
            f"cannot spread {num_units} units over {stages} stages with {chunks} pieces each",
            "Each piece has at least one unit",
            f"Use executor.num_stages={max(num_units // max(chunks, 1), 1)}.",
        )
    if ends is None and config.units_per_piece is not None:
        ends = tuple(itertools.accumulate(config.units_per_piece))
    even = tuple(part.stop for part in even_split(num_units, num_pieces))
    cuts = even if ends is None else tuple(ends)
    if len(cuts) != num_pieces or cuts[-1] != num_units:
        raise PartitionError(
            f"ends {list(cuts)} do not cut {num_units} units into {num_pieces} pieces",
            f"{stages} stages with {chunks} pieces each have as many ends, the last of which is the number of units",
            "Use executor.units_per_piece with as many numbers, which add up to the units; or leave it out.",
        )
    return PiecePlan(config.schedule, config.num_microbatches, stages, cuts)
