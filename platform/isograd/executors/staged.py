"""What executors of several processes, a stage each, have in common."""

import os
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from isograd.engine.blueprint import Blueprint
from isograd.engine.config import ExecutorConfig, RunConfig
from isograd.engine.program import Program
from isograd.events.events import Event
from isograd.executors.executor import Executor, Running
from isograd.options import choice


@dataclass
class StagedConfig(ExecutorConfig):
    """Options of executors with several stages.

    Attributes:
        num_stages: S, the processes that the network is spread over; null: 2, or 1 where the machine has a single GPU
            or nothing can be spread.
        spread: ``even`` (as much on every stage) or ``balanced`` (by measured costs).
    """

    num_stages: int | None = None
    spread: str = choice("even", "balanced")


class StagedExecutor(Executor):
    """Runs stages in Ray actors, which it has from entering to leaving."""

    Config = StagedConfig
    stages: Running

    @abstractmethod
    def make_stages(self) -> Running:
        """Returns the actors of its stages, not yet started."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.stages = stack.enter_context(self.make_stages())
            self._resources = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def fit(self, program: Program) -> Iterator[Event]:
        """Trains; yields the events of all stages as they come."""
        return self.stages.fit(program)

    def evaluate(self, program: Program) -> Iterator[Event]:
        """Runs the test split through the pipeline."""
        return self.stages.evaluate(program)

    def state(self) -> dict[str, Tensor]:
        """Returns the state of all modules, gathered from the stages."""
        return self.stages.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Hands each stage the state of its modules. Raises CheckpointError; nothing is loaded then."""
        self.stages.load_state(state)

    @classmethod
    def stage_counts(cls, config: RunConfig, most: int) -> list[int]:
        """Returns the number asked for, or all up to one a device of this machine."""
        options = StagedConfig.within(config)
        if options.num_stages is not None:
            return [options.num_stages]
        uses_gpus = options.device != "cpu" and torch.cuda.is_available()
        devices = torch.cuda.device_count() / options.gpus_per_stage if uses_gpus else len(os.sched_getaffinity(0))
        return list(range(1, max(min(int(devices), most), 1) + 1))

    @classmethod
    def default_num_stages(cls, blueprint: Blueprint, most: int) -> int:
        """Two, or one where this machine has a single GPU for them; on a cluster the placement decides."""
        config = blueprint.config
        uses_gpus = config.executor.device != "cpu" and config.cluster.address is None and torch.cuda.is_available()
        room = int(torch.cuda.device_count() / config.executor.gpus_per_stage) if uses_gpus else 2
        return min(2, most, max(room, 1))
