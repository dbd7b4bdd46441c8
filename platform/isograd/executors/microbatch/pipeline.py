"""End-to-end training as a traditional pipeline: GPipe, 1F1B, interleaved, zero-bubble. The baseline of PPLL.

Gradients cross the cuts, so stages wait for each other; a batch is split into M microbatches to have them wait less.
Schedules and transport are :mod:`torch.distributed.pipelining`'s, over gloo on CPUs and NCCL on GPUs. The actors, their
placement, the data, the optimizer, events and checkpoints are the platform's own.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import ray
import torch
from torch import Tensor

from isograd.cluster import actors, failure, placement
from isograd.cluster.config import ClusterConfig
from isograd.cluster.connection import connected
from isograd.cluster.placement import Reservation
from isograd.data.outline import Outline
from isograd.engine.blueprint import Blueprint
from isograd.engine.program import Program
from isograd.errors import PlacementError
from isograd.events.events import Event, Position, Snapshot
from isograd.executors.microbatch.actor import MicrobatchActor, PieceBuilder
from isograd.executors.microbatch.config import MicrobatchConfig
from isograd.executors.microbatch.plan import PiecePlan
from isograd.local.learner import Learner
from isograd.local.module import LocalModule, Silent


@dataclass(frozen=True)
class BlueprintPieces:
    """Builds pieces of a blueprint's only local module, under the names that it has in one piece."""

    blueprint: Blueprint

    @property
    def num_units(self) -> int:
        """Units of the backbone."""
        return len(self.blueprint.partition.backbone.units)

    def __call__(self, pieces: Sequence[range], device: torch.device) -> list[Learner]:
        """Builds pieces of the only local module on ``device``.

        The first has its entry, the last its objective; their states together are that of the whole.
        """
        blueprint = Blueprint(self.blueprint.config)  # a new one, whose weights nobody has trained
        method, partition = blueprint.method, blueprint.partition
        units, whole = partition.units(0), method.local_module(partition, 0, blueprint.config.seed)
        num_passes, learners = method.num_passes(partition, 0), []
        for index, piece in enumerate(pieces):
            module = LocalModule(
                index,
                units[piece.start : piece.stop],
                whole.objective if piece.stop == len(units) else Silent(),
                entering=list(partition.backbone.live(piece.start)),
                leaving=list(partition.backbone.live(piece.stop)),
                entry=dict(whole.entry.items()) if piece.start == 0 else None,
                num_passes=num_passes[piece.start : piece.stop],
            )
            learners.append(blueprint.learner(module, device))
        return learners


class MicrobatchPipeline:
    """S actors that train one network end to end.

    Every stage iterates the same program. Only the first and the last open the data set, each for itself, so that
    neither images nor targets pass through the driver; a stage between them gets an outline without images.

    Args:
        build: Makes the pieces, in the actor that hosts them.
        plan: Schedule, microbatches and cuts to begin with.
        executor: Devices and threads.
        cluster: Where to run.
        held_bytes: What the data source carries with it.
        extra_cpus: Logical CPUs that data readers need beside the stages.
        records_steps: Whether the stages' reports list when each step ended.

    Note:
        With M microbatches of equal size the gradient is that of the whole batch, but for the order of its sums. What
        looks at several images at once does not see the whole batch: BatchNorm takes the statistics of a microbatch,
        and updates its running ones M times a step. Dropout draws from streams named by step, piece and microbatch,
        so its masks are others than in one process. A smaller last batch that M does not divide is split into fewer
        equal parts. The norm that ``precision.clip_norm`` limits is that of all stages together.
    """

    def __init__(
        self,
        build: PieceBuilder,
        plan: PiecePlan,
        executor: MicrobatchConfig,
        cluster: ClusterConfig,
        *,
        held_bytes: int = 0,
        extra_cpus: int = 0,
        records_steps: bool = False,
    ) -> None:
        self._build, self.plan, self._config, self._cluster = build, plan, executor, cluster
        self._held_bytes, self._extra_cpus, self._records_steps = held_bytes, extra_cpus, records_steps
        self._actors: list[Any] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(connected(self._cluster, queued_bytes=self._held_bytes, extra_cpus=self._extra_cpus))
            placement.check_store(self._held_bytes)
            reservation = stack.enter_context(
                placement.reserved(self.plan.num_stages, self._config.demand, self._cluster)
            )
            _check_whole_gpus(reservation.need)
            stack.callback(self._kill)
            self._actors = [self._actor(index, reservation) for index in range(self.plan.num_stages)]
            (address,) = failure.raise_cause([self._actors[0].open.remote()])
            failure.raise_cause([actor.join.remote(*address) for actor in self._actors])
            self.arrange(self.plan)
            self._resources = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def arrange(self, plan: PiecePlan) -> None:
        """Gives the stages other pieces, with initial weights; a run may follow at once, by another schedule.

        Args:
            plan: With as many stages as there are.
        """
        assert plan.num_stages == self.plan.num_stages, "the stages are there already"
        self.plan = plan
        failure.raise_cause([actor.arrange.remote(plan) for actor in self._actors])

    def fit(self, program: Program) -> Iterator[Event]:
        """Trains; yields the events of all stages as they come.

        Raises:
            ConfigError: M does not divide the batch size.
        """
        self.plan.check_batch_size(program.source.batch_size)
        return self._run(program, evaluation=False)

    def evaluate(self, program: Program) -> Iterator[Event]:
        """Runs the test split through the pipeline."""
        return self._run(program, evaluation=True)

    def state(self) -> dict[str, Tensor]:
        """Returns the state of the network, gathered from the stages, under the names that it has in one process."""
        return actors.state_of(self._actors)

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Hands each stage the state of its pieces. Raises CheckpointError; nothing is loaded then."""
        actors.load_state(self._actors, state)

    def process_ids(self) -> list[int]:
        """Returns the process of each stage."""
        return failure.raise_cause([actor.process_id.remote() for actor in self._actors])

    def _run(self, program: Program, *, evaluation: bool) -> Iterator[Event]:
        whole, outline = ray.put(program), replace(program, source=Outline(program.source))
        ends = {0, self.plan.stage_of(self.plan.num_pieces - 1)}
        streams = [
            actor.run.options(num_returns="streaming").remote(
                whole if index in ends else outline, evaluation, self._records_steps
            )
            for index, actor in enumerate(self._actors)
        ]
        return gathered(failure.merged(streams), self.plan.num_stages)

    def _actor(self, index: int, reservation: Reservation) -> Any:
        options: Any = {
            "num_cpus": reservation.need["CPU"],
            "num_gpus": reservation.need.get("GPU", 0),
            "scheduling_strategy": reservation.of(index),
            "max_restarts": 0,
            "max_task_retries": 0,
        }
        config = self._config
        return ray.remote(**options)(MicrobatchActor).remote(
            self._build, index, self.plan.num_stages, config.threads, config.event_interval_s
        )

    def _kill(self) -> None:
        for actor in self._actors:
            ray.kill(actor, no_restart=True)
        self._actors = []


def gathered(events: Iterable[Event], num_stages: int) -> Iterator[Event]:
    """Yields events; the snapshots that all stages make of one position as one, of the only local module."""
    parts: dict[Position, list[Snapshot]] = {}
    for event in events:
        if not isinstance(event, Snapshot):
            yield event
            continue
        found = parts.setdefault(event.position, [])
        found.append(event)
        if len(found) == num_stages:
            del parts[event.position]
            tensors = {name: tensor for part in found for name, tensor in part.tensors.items()}
            yield Snapshot(0, event.position, tensors)


def _check_whole_gpus(need: dict[str, float]) -> None:
    if need.get("GPU", 1) < 1:
        raise PlacementError(
            f"executor.gpus_per_stage={need['GPU']:g} lets stages share a GPU",
            "NCCL, which carries activations and gradients between GPUs, needs one for each process",
            "Use executor.gpus_per_stage=1, or executor.device=cpu.",
        )
