"""All local modules in one process, one after the other: the reference that every other executor equals."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from isograd.channels.outbox import Nowhere
from isograd.engine.blueprint import Blueprint
from isograd.engine.config import ExecutorConfig, RunConfig
from isograd.engine.program import Program
from isograd.engine.stage import Stage
from isograd.errors import PlacementError
from isograd.events.events import Event
from isograd.executors.executor import EXECUTORS, Executor, Layout
from isograd.local.recorder import make_recorder
from isograd.local.state import check_known


@EXECUTORS.register("sequential")
class SequentialExecutor(Executor):
    """A single stage with all K modules. Needs no Ray.

    One module's graph is alive at a time: each is freed by its own backward pass before the next module runs. Where
    cascade losses reach back over a window of modules, their graphs are alive together.
    """

    @dataclass
    class Config(ExecutorConfig):
        """Options of a single process: those of every executor."""

        name: str = "sequential"

    needs_ray = False
    serves = frozenset({"inputs", "up_weights", "up_gradient"})

    def __init__(self, blueprint: Blueprint, held_bytes: int = 0, extra_cpus: int = 0) -> None:
        super().__init__(blueprint, held_bytes, extra_cpus)
        self._device = resolve_device(blueprint.config.executor.device)

    @classmethod
    def layout(cls, blueprint: Blueprint) -> Layout:
        """Returns one stage."""
        return Layout((range(blueprint.partition.num_modules),))

    @classmethod
    def bundles(cls, blueprint: Blueprint) -> list[dict[str, float]]:
        """Returns what a trial of Ray Tune reserves: its own process trains."""
        return super().bundles(blueprint)[1:]

    @classmethod
    def stage_counts(cls, config: RunConfig, most: int) -> list[int]:
        """Returns the method's default K: cuts for as many stages, all in one process."""
        return [min(Blueprint(config).method.default_num_modules, most)]

    def __enter__(self) -> Self:
        options, (modules,) = self.blueprint.config.executor, self.layout(self.blueprint).stages
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(options.threads)
        self.stage = Stage(
            0,
            self.blueprint.learners(modules, self._device),
            Nowhere(),
            device=self._device,
            routes=self.blueprint.routes([modules]),
            event_interval_s=options.event_interval_s,
            recorder=make_recorder(options.timeline, self._device),
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        torch.set_num_threads(self._threads_before)

    def fit(self, program: Program) -> Iterator[Event]:
        """Trains; yields events as they happen."""
        return self.stage.run(program.messages(self._device))

    def evaluate(self, program: Program) -> Iterator[Event]:
        """Runs the test split."""
        return self.stage.run(program.evaluation(self._device))

    def state(self) -> dict[str, Tensor]:
        """Returns the state of all modules."""
        return self.stage.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Puts all modules into a saved state. Raises CheckpointError; nothing is loaded then."""
        check_known(state, self.stage.check_state(state))
        self.stage.load_state(state)


def resolve_device(name: str) -> torch.device:
    """Maps ``auto``, ``cpu`` or ``cuda`` to a device of this process. Raises PlacementError where there is none."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise PlacementError(
            "executor.device=cuda, but torch finds 0 GPUs here",
            "The local modules were to run on one",
            "Use executor.device=auto or executor.device=cpu.",
        )
    return torch.device("cuda" if available and name != "cpu" else "cpu")
