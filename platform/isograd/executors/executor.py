"""The contract of an executor, and the names under which one can be asked for.

What there is to know about an executor, its class says: nothing else tests its name. The class itself needs no Ray;
what does is imported where the executor is entered.
"""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Protocol, Self, TypeVar

from torch import Tensor

from isograd.cluster.loopback import prefer_loopback
from isograd.engine.blueprint import Blueprint
from isograd.engine.config import ExecutorConfig, RunConfig
from isograd.engine.program import Program
from isograd.events.events import Event
from isograd.local.module import LocalModule
from isograd.partition.balance import Assignment, Limits, Piece
from isograd.registry import Registry

_LOG = logging.getLogger(__name__)

F = TypeVar("F", covariant=True)


@dataclass(frozen=True)
class Layout:
    """Which processes there are, and what each hosts.

    Attributes:
        stages: For each of the S stages, the consecutive local modules of which it hosts all, or some units.
        num_replicas: R, how often there is each stage.
    """

    stages: tuple[range, ...]
    num_replicas: int = 1

    @property
    def num_stages(self) -> int:
        """S."""
        return len(self.stages)

    @property
    def num_processes(self) -> int:
        """S R."""
        return self.num_stages * self.num_replicas


class Costs(Protocol):
    """What has been measured, from which an executor decides what its options leave open."""

    def modules(self, config: RunConfig) -> list[Piece]:
        """Returns what each local module costs."""
        ...

    def units(self, config: RunConfig) -> list[Piece]:
        """Returns what each unit of the backbone costs, and a cut after it."""
        ...

    def best(self, config: RunConfig, pieces: Sequence[Piece], num_modules: int | None) -> Assignment:
        """Returns how to put ``pieces`` together into modules (None: one a stage) and on as many stages as pay."""
        ...


class Forecasts(Protocol[F]):
    """What can be simulated by measured costs."""

    def sequential(self) -> F:
        """All modules on one device."""
        ...

    def pipelined(self, stages: Sequence[range]) -> F:
        """The modules spread over stages that all compute at once."""
        ...

    def microbatched(self, stages: Sequence[range], name: str, num_microbatches: int, chunks: int) -> F:
        """The units spread over stages that hand each other gradients, by a schedule."""
        ...


class Running(Protocol):
    """What an executor is between enter and exit."""

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @abstractmethod
    def fit(self, program: Program) -> Iterator[Event]:
        """Trains; yields what happens, in the order of each stage."""

    @abstractmethod
    def evaluate(self, program: Program) -> Iterator[Event]:
        """Runs the program's test split alone, through the same path."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Returns the state of all modules, by names that do not depend on the executor."""

    @abstractmethod
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Puts all modules into exactly this state, optimizer included: what is not in it begins anew.

        Raises:
            CheckpointError: A tensor is missing, unknown or of another shape; nothing is loaded then.
        """


class Executor(Running, ABC):
    """Runs the local modules of a blueprint. A context manager: resources are held between enter and exit.

    Args:
        blueprint: Of the local modules.
        held_bytes: What the data source carries with it.
        extra_cpus: Logical CPUs that data readers need beside the stages, in a private cluster.

    Attributes:
        Config: Its options: a subclass of :class:`~isograd.engine.config.ExecutorConfig`, which checks them.
        needs_ray: Whether it runs on a cluster.
        num_readers: Processes that open the data source.
        serves: What it carries across a cut beyond activations and targets, as fields of
            :class:`~isograd.local.exchange.Exchange`.

    Raises:
        IsogradError: It cannot run the blueprint.
    """

    Config: ClassVar[type[ExecutorConfig]]
    needs_ray: ClassVar[bool] = True
    num_readers: ClassVar[int] = 1
    serves: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, blueprint: Blueprint, held_bytes: int = 0, extra_cpus: int = 0) -> None:
        self.check(blueprint)
        self.blueprint, self.held_bytes, self.extra_cpus = blueprint, held_bytes, extra_cpus

    @classmethod
    @abstractmethod
    def layout(cls, blueprint: Blueprint) -> Layout:
        """Returns which processes there are. Raises PartitionError where the modules cannot be spread so."""

    @classmethod
    def check(cls, blueprint: Blueprint) -> None:
        """Raises IsogradError where it cannot run the blueprint: its layout, or what its method exchanges."""
        cls.layout(blueprint)
        config = blueprint.config
        blueprint.method.exchange.check_served(cls.serves, config.method.name, config.executor.name)

    @classmethod
    def check_batches(cls, config: RunConfig, sizes: Sequence[int], has_batchnorm: bool) -> None:
        """Raises ConfigError for batches that it cannot train on.

        Args:
            config: Of the run.
            sizes: Of the batches that there will be.
            has_batchnorm: Whether a local module takes the variance of a batch.
        """

    @classmethod
    def bundles(cls, blueprint: Blueprint) -> list[dict[str, float]]:
        """Returns what a trial of Ray Tune reserves: a bundle for its own process, and one for each other."""
        from isograd.cluster import placement

        config = blueprint.config
        need = placement.bundle(config.executor.demand, config.cluster)
        return [{}, *[need] * cls.layout(blueprint).num_processes]

    @classmethod
    def forecast(cls, blueprint: Blueprint, forecasts: Forecasts[F]) -> F:
        """Returns what it will do, simulated."""
        stages = cls.layout(blueprint).stages
        return forecasts.pipelined(stages) if len(stages) > 1 else forecasts.sequential()

    @classmethod
    def unit_stages(cls, blueprint: Blueprint) -> list[range]:
        """Returns the units of each stage where its cuts are not those of local modules; empty: they are."""
        return []

    @classmethod
    def resolve(cls, config: RunConfig, costs: Costs) -> RunConfig:
        """Returns the configuration with what its options leave to measured costs decided."""
        return config

    @classmethod
    @abstractmethod
    def stage_counts(cls, config: RunConfig, most: int) -> list[int]:
        """Returns the numbers of stages, up to ``most``, that cuts by cost choose among."""

    @classmethod
    def limits(cls, config: RunConfig, num_stages: int, link_bytes_per_s: float) -> Limits:
        """Returns what so many stages and the links between them can do."""
        memory_mib = getattr(config.partition, "memory_mib", None)
        memory_bytes = float("inf") if memory_mib is None else memory_mib * 2**20
        return Limits((1.0,) * num_stages, link_bytes_per_s, memory_bytes)

    @classmethod
    def on_stages(cls, config: RunConfig, stages: Sequence[range]) -> RunConfig:
        """Returns the configuration with these modules on its stages, as cuts by cost have come out."""
        return config


EXECUTORS: Registry[type[Executor]] = Registry("executor", "isograd.executors", "isograd.executors", folders=False)

# From a blueprint, what its data source holds and the CPUs that readers need, to its executor, open within a block.
Opener = Callable[[Blueprint, int, int], AbstractContextManager[Running]]


def executor_of(config: RunConfig) -> type[Executor]:
    """Returns the class of the executor that a configuration names."""
    return EXECUTORS.get(config.executor.name)


def layout_of(blueprint: Blueprint) -> Layout:
    """Returns which processes the blueprint's own executor has. Raises PartitionError."""
    return executor_of(blueprint.config).layout(blueprint)


def check(blueprint: Blueprint) -> list[LocalModule]:
    """Checks a blueprint and its executor before a run starts; returns the local modules, without memory.

    Raises:
        IsogradError: What building them, or running them so, would raise.
    """
    executor_of(blueprint.config).check(blueprint)
    return blueprint.check()


def make_executor(blueprint: Blueprint, held_bytes: int = 0, extra_cpus: int = 0) -> Executor:
    """Returns the executor that the blueprint's configuration names. Ray is imported only by one that needs it.

    Args:
        blueprint: Of the local modules.
        held_bytes: What the data source carries with it.
        extra_cpus: Logical CPUs that data readers need beside the stages, in a private cluster.

    Raises:
        IsogradError: It cannot run the blueprint.
    """
    _warn_of_threads(blueprint.config)
    kind = executor_of(blueprint.config)
    if kind.needs_ray:
        prefer_loopback()
    return kind(blueprint, held_bytes, extra_cpus)


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
