"""What a trial reserves, and whether a cluster can ever give it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune

from isograd.cluster import placement
from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig
from isograd.executors.executor import executor_of, layout_of


def bundles(config: RunConfig) -> list[dict[str, float]]:
    """Returns what a trial reserves, all of it at once: a bundle for its process, or one a stage."""
    return executor_of(config).bundles(Blueprint(config))


def resources(given: dict[str, Any]) -> tune.PlacementGroupFactory:
    """Returns the reservation as Tune wants it.

    Args:
        given: What the trial is given; see :class:`~isograd.tune.search.StudySearch`.
    """
    return tune.PlacementGroupFactory(given["bundles"], strategy="PACK")


def admitting(base: RunConfig) -> Callable[[Blueprint], None]:
    """Returns what raises PlacementError for a configuration that needs more than the cluster can ever have.

    Args:
        base: One that it has room for.
    """
    known = (base.executor, layout_of(Blueprint(base)).num_processes)

    def admit(blueprint: Blueprint) -> None:
        config, num_processes = blueprint.config, layout_of(blueprint).num_processes
        if (config.executor, num_processes) != known:
            need = placement.bundle(config.executor.demand, config.cluster)
            placement.check_capacity(num_processes, need, config.cluster)

    return admit


@dataclass(frozen=True)
class TrialRoom:
    """Attributes:
    num_pending: Trials that may wait for their processes at once: as many as may ever run, so that all start together
        (Tune gives a process that becomes free to a trial that waits, and drops the one that was starting for it: short
        trials would keep a second slot from ever coming up), and an autoscaler brings all it can.
    most_concurrent: Trials under way at once: one more, which waits for the next process, or as many as may run.
    """

    num_pending: int
    most_concurrent: int


def check_room(config: RunConfig) -> TrialRoom:
    """Checks that the cluster can ever hold a trial.

    Args:
        config: What all trials have in common.

    Raises:
        PlacementError: It cannot. Said at once, with the numbers.
    """
    need = placement.bundle(config.executor.demand, config.cluster)
    num_processes = layout_of(Blueprint(config)).num_processes
    placement.check_capacity(num_processes, need, config.cluster)
    room = placement.room(need, config.cluster)
    num_slots = max(room.ever // num_processes, 1)
    if not config.data.streams:
        return TrialRoom(num_slots, num_slots + 1)
    spare = int((ray.cluster_resources().get("CPU", 1) - 1) // (need["CPU"] * num_processes))  # Ray Data reads on one
    return TrialRoom(num_slots, max(spare, 1))
