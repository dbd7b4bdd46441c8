"""What a trial reserves, and whether a cluster can ever give it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune

from isograd.cluster import placement
from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig


def bundles(config: RunConfig) -> list[dict[str, float]]:
    """Returns what a trial reserves, all of it at once: a bundle for its process, or one a stage."""
    need = placement.bundle(config.executor, config.cluster)
    if config.executor.name == "sequential":
        return [need]
    return [{}, *[need] * Blueprint(config).num_stages]


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
    known = (base.executor, _num_stages(Blueprint(base)))

    def admit(blueprint: Blueprint) -> None:
        config, num_stages = blueprint.config, _num_stages(blueprint)
        if (config.executor, num_stages) != known:
            placement.check_capacity(num_stages, placement.bundle(config.executor, config.cluster), config.cluster)

    return admit


def _num_stages(blueprint: Blueprint) -> int:
    return 1 if blueprint.config.executor.name == "sequential" else blueprint.num_stages


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
    need = placement.bundle(config.executor, config.cluster)
    num_stages = _num_stages(Blueprint(config))
    placement.check_capacity(num_stages, need, config.cluster)
    room = placement.room(need, config.cluster)
    num_slots = max(room.ever // num_stages, 1)
    if config.data.loading != "stream":
        return TrialRoom(num_slots, num_slots + 1)
    spare = int((ray.cluster_resources().get("CPU", 1) - 1) // (need["CPU"] * num_stages))  # Ray Data reads on one
    return TrialRoom(num_slots, max(spare, 1))
