"""The actors of PPLL, a stage each, in a chain.

The pipeline runs free. The driver hands the program to the first stage and then only listens: messages travel from
stage to stage through bounded queues, and every stage yields its events to the driver as a stream.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import ray
import torch
from torch import Tensor

from isograd.channels import channel as contract
from isograd.channels.outbox import Nowhere
from isograd.cluster import actors, failure, placement
from isograd.cluster.config import ClusterConfig
from isograd.cluster.connection import connected
from isograd.cluster.placement import Reservation
from isograd.engine.blueprint import Blueprint
from isograd.engine.config import ExecutorConfig
from isograd.engine.program import Program
from isograd.engine.stage import Stage
from isograd.events.events import Event
from isograd.executors.pipeline.actor import StageBuilder, remote_class
from isograd.executors.pipeline.config import PipelinedConfig
from isograd.local.recorder import make_recorder


@dataclass(frozen=True)
class BlueprintStage:
    """Builds, in its actor, a stage of a blueprint.

    Attributes:
        blueprint: Of the local modules.
        index: Of the stage, s.
        stages: Which modules each stage hosts.
    """

    blueprint: Blueprint
    index: int
    stages: tuple[range, ...]

    def __call__(self, device: torch.device) -> Stage:
        """Builds the stage."""
        learners = self.blueprint.learners(self.stages[self.index], device)
        config = self.blueprint.config.executor
        return Stage(
            self.index,
            learners,
            Nowhere(),
            device=device,
            routes=self.blueprint.routes(self.stages),
            event_interval_s=event_interval_s(config, self.index, len(self.stages)),
            recorder=make_recorder(config.timeline, device),
        )


def event_interval_s(config: ExecutorConfig, stage: int, num_stages: int) -> float:
    """Returns how often a stage reports progress: the last one as configured, the others together as often.

    So what the driver has to do does not grow with the number of stages.
    """
    return config.event_interval_s * (1 if stage == num_stages - 1 else num_stages)


class Pipeline:
    """S actors in a chain.

    Args:
        builders: Of the stages, in order; each runs in its own actor.
        executor: Devices, threads and queue depth.
        cluster: Where to run.
        queued_bytes: What all queues hold at most; sizes a private cluster's object store.
        extra_cpus: Logical CPUs that data readers need beside the stages.
        records_steps: Whether the stages' reports list when each step ended.

    Attributes:
        channel: The name of the channel that connects the stages, once they run.
    """

    def __init__(
        self,
        builders: Sequence[StageBuilder],
        executor: PipelinedConfig,
        cluster: ClusterConfig,
        *,
        queued_bytes: int = 0,
        extra_cpus: int = 0,
        records_steps: bool = False,
    ) -> None:
        self._builders, self._config, self._cluster = list(builders), executor, cluster
        self._queued_bytes, self._extra_cpus, self._records_steps = queued_bytes, extra_cpus, records_steps
        self._actors: list[Any] = []
        self.channel = executor.channel

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(connected(self._cluster, queued_bytes=self._queued_bytes, extra_cpus=self._extra_cpus))
            placement.check_store(self._queued_bytes)
            reservation = stack.enter_context(
                placement.reserved(len(self._builders), self._config.demand, self._cluster)
            )
            stack.callback(self._kill)
            self._actors = [self._actor(index, reservation) for index in range(len(self._builders))]
            self._probes = self._may_be_direct(reservation.need)
            self._connect()
            self._resources = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def fit(self, program: Program) -> Iterator[Event]:
        """Trains; yields the events of all stages as they come."""
        return self._run(program, evaluation=False)

    def evaluate(self, program: Program) -> Iterator[Event]:
        """Runs the test split through the pipeline."""
        return self._run(program, evaluation=True)

    def state(self) -> dict[str, Tensor]:
        """Returns the state of all modules, gathered from the stages."""
        return actors.state_of(self._actors)

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Hands each stage the state of its modules. Raises CheckpointError; nothing is loaded then."""
        actors.load_state(self._actors, state)

    def rebuild(self, builders: Sequence[StageBuilder]) -> None:
        """Lets the actors host other stages, as many, which begin anew.

        Args:
            builders: Of the new stages.
        """
        self._rebuild(builders, [()] * len(builders))

    def move(self, builders: Sequence[StageBuilder], before: Sequence[range], after: Sequence[range]) -> None:
        """Moves local modules between the actors, with all their state.

        Args:
            builders: Of the new stages.
            before: The modules that each actor hosts.
            after: Those that it is to host.
        """
        hosts = [actor for actor, modules in zip(self._actors, before, strict=True) for _ in modules]
        states = [actor.module_state.remote(module) for module, actor in enumerate(hosts)]
        self._rebuild(builders, [states[modules.start : modules.stop] for modules in after])

    def loop(self, duration_s: float) -> list[float]:
        """Lets all stages train side by side, each on the last batch that it got, with no communication.

        Returns:
            The steps a second of each stage: what it could do at best beside the others.
        """
        return failure.raise_cause([actor.loop.remote(duration_s) for actor in self._actors])

    def process_ids(self) -> list[int]:
        """Returns the process of each stage."""
        return failure.raise_cause([actor.process_id.remote() for actor in self._actors])

    def _rebuild(self, builders: Sequence[StageBuilder], states: Sequence[Sequence[Any]]) -> None:
        """``states`` are those of each stage's modules, as references; none for stages that begin anew."""
        renewed = zip(self._actors, builders, states, strict=True)
        failure.raise_cause([actor.rebuild.remote(build, *of_modules) for actor, build, of_modules in renewed])
        self._builders = list(builders)
        self._connect()  # other modules may need other ways: weights and gradients travel to where they are used

    def _run(self, program: Program, *, evaluation: bool) -> Iterator[Event]:
        streams = [
            actor.run.options(num_returns="streaming").remote(
                program if index == 0 else None, evaluation, self._records_steps
            )
            for index, actor in enumerate(self._actors)
        ]
        return failure.merged(streams)

    def _connect(self) -> None:
        """Chooses the channel by where the stages have come to be, and lets them connect by it."""
        places = failure.raise_cause([actor.place.remote(self._probes) for actor in self._actors])
        self.channel = contract.choose(self._config.channel, places)
        met = failure.raise_cause([actor.meet.remote(self._actors, self.channel, places) for actor in self._actors])
        addresses, ways = [address for address, _ in met], [way for _, found in met for way in found]
        failure.raise_cause([actor.connect.remote(ways, addresses) for actor in self._actors])

    def _may_be_direct(self, need: dict[str, float]) -> bool:
        return self._config.channel == "direct" or (self._config.channel == contract.AUTO and "GPU" in need)

    def _actor(self, index: int, reservation: Reservation) -> Any:
        options = {
            "num_cpus": reservation.need["CPU"],
            "num_gpus": reservation.need.get("GPU", 0),
            "scheduling_strategy": reservation.of(index),
        }
        depth = self._config.queue_depth
        actor_class = remote_class(depth, direct_transport=self._may_be_direct(reservation.need))
        return actor_class.options(**options).remote(self._builders[index], self._config.threads, depth)

    def _kill(self) -> None:
        for actor in self._actors:
            ray.kill(actor, no_restart=True)
        self._actors = []


def stage_builders(blueprint: Blueprint, stages: Sequence[range]) -> list[BlueprintStage]:
    """Returns what builds the blueprint's stages, in order, each with the local modules that it hosts."""
    return [BlueprintStage(blueprint, index, tuple(stages)) for index in range(len(stages))]
