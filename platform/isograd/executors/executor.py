"""The contract of an executor, and the names under which one can be asked for."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

from torch import Tensor

from isograd.cluster.loopback import prefer_loopback
from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig
from isograd.engine.program import Program
from isograd.events.events import Event

_LOG = logging.getLogger(__name__)


class Executor(Protocol):
    """Runs the local modules of a blueprint. A context manager: resources are held between enter and exit."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def fit(self, program: Program) -> Iterator[Event]:
        """Trains; yields what happens, in the order of each stage."""
        ...

    def evaluate(self, program: Program) -> Iterator[Event]:
        """Runs the program's test split alone, through the same path."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Returns the state of all modules, by names that do not depend on the executor."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Puts all modules into exactly this state, optimizer included: what is not in it begins anew.

        Raises:
            CheckpointError: A tensor is missing, unknown or of another shape; nothing is loaded then.
        """
        ...


# From a blueprint, what its data source holds and the CPUs that readers need, to its executor, open within a block.
Opener = Callable[[Blueprint, int, int], AbstractContextManager[Executor]]


def make_executor(blueprint: Blueprint, held_bytes: int = 0, extra_cpus: int = 0) -> Executor:
    """Returns the executor that the blueprint's configuration names. Ray is imported only for one that needs it.

    Args:
        blueprint: Of the local modules.
        held_bytes: What the data source carries with it.
        extra_cpus: Logical CPUs that data readers need beside the stages, in a private cluster.

    Raises:
        ExchangeError: It cannot serve the method's exchange.
    """
    _warn_of_threads(blueprint.config)
    name = blueprint.config.executor.name
    if name != "sequential":
        prefer_loopback()
    if name == "pipelined":
        from isograd.executors.pipelined import pipelined
        from isograd.executors.rebalancing import RebalancingPipeline

        if blueprint.config.executor.rebalance == "auto" and blueprint.num_stages > 1:
            return RebalancingPipeline(blueprint, held_bytes=held_bytes, extra_cpus=extra_cpus)
        return pipelined(blueprint, held_bytes=held_bytes, extra_cpus=extra_cpus)
    if name == "microbatch":
        from isograd.executors.microbatch.executor import microbatch

        return microbatch(blueprint, held_bytes=held_bytes, extra_cpus=extra_cpus)
    from isograd.executors.sequential import SequentialExecutor

    return SequentialExecutor(blueprint)


def _warn_of_threads(config: RunConfig) -> None:
    """Says where each process is to have more threads than this machine has CPUs; another cluster's are not known."""
    num_cpus = len(os.sched_getaffinity(0))
    if config.cluster.address is None and config.executor.threads > num_cpus:
        _LOG.warning(
            "executor.threads=%d is more than the %d CPUs here: threads of a process take turns and the run is slower; "
            "use executor.threads=%d or less",
            config.executor.threads,
            num_cpus,
            num_cpus,
        )
