"""What a trial reserves, and whether a cluster can ever give it."""

from typing import Any

import ray
from ray import tune

from isograd.config.load import from_dict
from isograd.config.schema import RunConfig
from isograd.executor import placement
from isograd.executor.blueprint import Blueprint


def resources(given: dict[str, Any]) -> tune.PlacementGroupFactory:
    """Returns what a trial reserves, all of it at once: a bundle for its process, or one a stage.

    Args:
        given: What the trial is given; see :class:`~isograd.tune.trial.Trial`.
    """
    config = from_dict(given["config"])
    need = placement.bundle(config.executor)
    if config.executor.name == "sequential":
        return tune.PlacementGroupFactory([need])
    return tune.PlacementGroupFactory([{}, *[need] * Blueprint(config).num_stages], strategy="PACK")


def check_room(config: RunConfig) -> int | None:
    """Checks that the cluster can ever hold a trial.

    Args:
        config: What all trials have in common.

    Returns:
        How many may run at once; None: as many as their reservations allow.

    Raises:
        PlacementError: It cannot hold one. Said at once, with the numbers.
    """
    need = placement.bundle(config.executor)
    num_stages = 1 if config.executor.name == "sequential" else Blueprint(config).num_stages
    placement.check_capacity(num_stages, need)
    if config.data.loading != "stream":
        return None
    return max(int((ray.cluster_resources().get("CPU", 1) - 1) // (need["CPU"] * num_stages)), 1)  # Data reads on one
