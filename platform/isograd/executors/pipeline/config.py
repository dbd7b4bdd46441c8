"""Options of the pipeline of local modules."""

from dataclasses import dataclass, replace
from typing import Self

from isograd.engine.config import RunConfig
from isograd.executors.staged import StagedConfig
from isograd.options import Range, check_numbers, choice, number


@dataclass
class PipelinedConfig(StagedConfig):
    """Options of the pipeline.

    Attributes:
        modules_per_stage: How many consecutive local modules each stage hosts; null: as ``spread`` says.
        rebalance: ``auto``: where a run shows that modules spread otherwise would make its slowest stage more than
            10 % faster, they move at an epoch's end; ``off``: never.
        speeds: Of the stages' devices, relative to each other, for balancing, one a stage; null: all the same.
        queue_depth: Activations that may wait between two stages.
        channel: How they travel: ``store`` (Ray's object store), ``direct`` (Ray's direct transport),
            ``collective`` (a process group of two a connection: gloo or NCCL), or ``auto``, the best of them where
            the stages run.
    """

    name: str = "pipelined"
    modules_per_stage: list[int] | None = None
    rebalance: str = choice("off", "auto")
    speeds: list[float] | None = None
    queue_depth: int = number(2, 1)
    channel: str = choice("auto", "store", "direct", "collective")

    def in_one_stage(self) -> Self:
        """Returns the options for a method without cuts."""
        return self if self.num_stages in (None, 1) else replace(self, num_stages=None)

    def check(self, config: RunConfig) -> None:
        """Raises ConfigError for options out of range, or where there is not one speed a stage."""
        if self.speeds is not None:
            count = max(len(self.speeds), 1) if self.num_stages is None else self.num_stages
            what = "the speed of each stage's device"
            check_numbers("executor.speeds", self.speeds, count, what, Range(0, open=True))
        super().check(config)
