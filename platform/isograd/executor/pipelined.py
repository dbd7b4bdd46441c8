"""PPLL: one Ray actor a stage, all of them computing at the same time on different batches (Guo et al. 2024).

The pipeline runs free. The driver hands the program to the first stage and then only listens: messages travel from
stage to stage through bounded queues, and every stage yields its events to the driver as a stream.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch import Tensor

from isograd.errors import PartitionError
from isograd.executor import failure, placement
from isograd.executor.actor import remote_class
from isograd.executor.blueprint import Blueprint, spread
from isograd.executor.cluster import connected
from isograd.executor.program import Program
from isograd.report.events import Event

SERVED = frozenset({"input"})


class PipelinedExecutor:
    """S actors, each with consecutive local modules. Implements :class:`~isograd.executor.executor.Executor`.

    Args:
        blueprint: Builds the local modules, in each actor those that it hosts.
        queued_bytes: What all queues hold at most, in bytes; sizes a private cluster's object store.
        extra_cpus: Logical CPUs that data readers need beside the stages.
        records_steps: Whether the stages' reports list when each step ended.
    """

    def __init__(
        self, blueprint: Blueprint, *, queued_bytes: int = 0, extra_cpus: int = 0, records_steps: bool = False
    ) -> None:
        blueprint.method.exchange.check_served(SERVED, blueprint.config.method.name, "pipelined")
        self._blueprint = blueprint
        self._queued_bytes, self._extra_cpus, self._records_steps = queued_bytes, extra_cpus, records_steps
        self._actors: list[Any] = []

    def __enter__(self) -> Self:
        config = self._blueprint.config
        with ExitStack() as stack:
            stack.enter_context(
                connected(config.cluster, queued_bytes=self._queued_bytes, extra_cpus=self._extra_cpus)
            )
            need = placement.bundle(config.executor)
            self.stages = spread(self._blueprint.partition.num_modules, self._num_stages(need))
            group = stack.enter_context(placement.reserved(len(self.stages), need))
            stack.callback(self._kill)
            self._actors = [self._actor(index, group, need) for index in range(len(self.stages))]
            failure.raise_cause(self._actors, [actor.ready.remote() for actor in self._actors])
            self._prepare(None)
            self._resources = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def fit(self, program: Program) -> Iterator[Event]:
        return self._run(program, evaluation=False)

    def evaluate(self, program: Program) -> Iterator[Event]:
        return self._run(program, evaluation=True)

    def state(self) -> dict[str, Tensor]:
        merged: dict[str, Tensor] = {}
        for part in ray.get([actor.state.remote() for actor in self._actors]):
            merged |= part
        return merged

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._prepare(state)

    @property
    def process_ids(self) -> list[int]:
        """Of the stages, in order."""
        return ray.get([actor.ready.remote() for actor in self._actors])

    def _run(self, program: Program, *, evaluation: bool) -> Iterator[Event]:
        streams = [
            actor.run.options(num_returns="streaming").remote(
                program if index == 0 else None, evaluation, self._records_steps
            )
            for index, actor in enumerate(self._actors)
        ]
        return failure.merged(streams, self.stages)

    def _num_stages(self, need: dict[str, float]) -> int:
        num_modules, asked = self._blueprint.partition.num_modules, self._blueprint.config.executor.num_stages
        if asked is None:
            asked = min(2, num_modules)
        if not 1 <= asked <= num_modules:
            raise PartitionError(
                f"cannot spread {num_modules} local modules over {asked} stages",
                "Each stage hosts at least one whole local module",
                f"Use executor.num_stages<={num_modules}, or more local modules (partition.num_modules).",
            )
        placement.check_capacity(asked, need)
        return asked

    def _actor(self, index: int, group: Any, need: dict[str, float]) -> Any:
        depth = self._blueprint.config.executor.queue_depth
        strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
        options = {"num_cpus": need["CPU"], "num_gpus": need.get("GPU", 0), "scheduling_strategy": strategy}
        return remote_class(depth).options(**options).remote(self._blueprint, index, self.stages[index], depth)

    def _prepare(self, state: dict[str, Tensor] | None) -> None:
        shared = None if state is None else ray.put(state)
        following = [*self._actors[1:], None]
        calls = [actor.prepare.remote(after, shared) for actor, after in zip(self._actors, following, strict=True)]
        failure.raise_cause(self._actors, calls)

    def _kill(self) -> None:
        for actor in self._actors:
            ray.kill(actor, no_restart=True)
        self._actors = []
