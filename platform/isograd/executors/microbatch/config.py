"""Options of the pipeline that carries gradients."""

from dataclasses import dataclass

from isograd.engine.config import RunConfig
from isograd.errors import ConfigError
from isograd.executors.staged import StagedConfig
from isograd.options import choice, number
from isograd.schedules.microbatch import PIPELINE_SCHEDULES


@dataclass
class MicrobatchConfig(StagedConfig):
    """Options of the schedule.

    Attributes:
        schedule: ``1f1b``, ``gpipe``, ``interleaved``, ``zero_bubble`` or ``zbv``.
        num_microbatches: M, equal parts of a batch.
        chunks: V, the slices of the network that a stage hosts; null: as few as the schedule can have, which is 2
            for ``interleaved`` and ``zbv``, and 1 for the others.
        units_per_piece: How many units each of the S V slices has; null: as ``spread`` says.
    """

    name: str = "microbatch"
    schedule: str = choice(*PIPELINE_SCHEDULES)
    num_microbatches: int = number(8, 1)
    chunks: int | None = number(None, 1)
    units_per_piece: list[int] | None = None

    @property
    def rounding(self) -> tuple[int, ...]:
        """What of the options changes how sums are rounded."""
        return self.threads, self.num_microbatches

    def check(self, config: RunConfig) -> None:
        """Raises ConfigError for options out of range, or for what torch's schedules cannot do."""
        super().check(config)
        if config.precision.compile and PIPELINE_SCHEDULES[self.schedule].splits_backward:
            raise ConfigError(
                f"precision.compile does not go with executor.schedule={self.schedule}",
                "The schedule computes the gradient of the weights apart, which a compiled backward pass cannot",
                "Use precision.compile=false, or executor.schedule=interleaved.",
            )
        if self.timeline:
            raise ConfigError(
                f"executor.timeline={self.timeline} does not go with executor=microbatch",
                "Its schedules are torch.distributed.pipelining's, which records by torch.profiler only",
                "Use executor.timeline=0.",
            )
