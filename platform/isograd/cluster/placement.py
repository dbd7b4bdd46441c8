"""Devices for the stages, reserved together or not at all."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import ray
from ray.util.placement_group import (
    PlacementGroup,
    get_current_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from isograd.cluster.config import ClusterConfig, Demand
from isograd.cluster.growth import node_types
from isograd.errors import PlacementError

_RELEASE_TIMEOUT_S = 3.0
_GROWTH_TIMEOUT_S = 1800.0  # for machines that a cloud has to find and start


def bundle(demand: Demand, cluster: ClusterConfig) -> dict[str, float]:
    """Returns what one stage reserves, and thereby decides the device: a GPU where the cluster has any, or may get one.

    Raises:
        PlacementError: ``executor.device=cuda`` on a cluster without GPUs.
    """
    coming = sum(node.resources.get("GPU", 0) * node.most for node in node_types(cluster.autoscaler))
    num_gpus = ray.cluster_resources().get("GPU", 0) + coming
    if demand.device == "cuda" and not num_gpus:
        raise PlacementError(
            "executor.device=cuda, but the cluster has 0 GPUs",
            "Each stage needs one",
            "Use executor.device=auto or executor.device=cpu.",
        )
    if demand.device == "cpu" or not num_gpus:
        return {"CPU": demand.cpus}
    return {"CPU": demand.cpus, "GPU": demand.gpus}


@dataclass(frozen=True)
class Reservation:
    """Bundles for stages.

    Attributes:
        group: The placement group.
        need: What each stage takes of its bundle.
        first: Index of the first stage's bundle; those of the others follow.
    """

    group: PlacementGroup
    need: dict[str, float]
    first: int = 0

    def of(self, stage: int) -> PlacementGroupSchedulingStrategy:
        """Returns where a stage's actor goes."""
        return PlacementGroupSchedulingStrategy(self.group, placement_group_bundle_index=self.first + stage)


@contextmanager
def reserved(num_stages: int, demand: Demand, cluster: ClusterConfig) -> Iterator[Reservation]:
    """Reserves what each of ``num_stages`` stages needs in one placement group; gives it back afterwards.

    Where this process itself runs in a placement group, as a trial of Ray Tune does, the stages go into the last
    bundles of that one, which stays.

    Raises:
        PlacementError: The cluster does not have it, or others hold it. Said at once, with the numbers.
    """
    own = get_current_placement_group()
    if own is not None:
        yield _within(own, num_stages, demand)
        return
    need = bundle(demand, cluster)
    check_capacity(num_stages, need, cluster)
    timeout_s = _RELEASE_TIMEOUT_S if cluster.autoscaler is None else _GROWTH_TIMEOUT_S
    group = placement_group([need] * num_stages, strategy="PACK")
    try:
        if not group.wait(timeout_seconds=timeout_s):
            free = ray.available_resources()
            raise PlacementError(
                f"{_stages(num_stages)} {_amounts(need, num_stages)}; free are {_amounts(free)}",
                "Other jobs hold the rest, and all stages have to start together",
                "Wait for them, or use fewer stages (executor.num_stages).",
            )
        yield Reservation(group, need)
    finally:
        _release(group)


def _within(group: PlacementGroup, num_stages: int, demand: Demand) -> Reservation:
    """Returns the group's last bundles, which decide the device as well: a GPU where they have one."""
    first = group.bundle_count - num_stages
    specs = group.bundle_specs[max(first, 0) :]
    need = {"CPU": demand.cpus}
    if demand.device == "cuda" or (demand.device == "auto" and all("GPU" in spec for spec in specs)):
        need["GPU"] = demand.gpus
    if first < 0 or any(spec.get(name, 0) < amount for spec in specs for name, amount in need.items()):
        raise PlacementError(
            f"{_stages(num_stages)} {_amounts(need, num_stages)}; this process's placement group has "
            f"{group.bundle_count} bundles: {group.bundle_specs}",
            "Each stage takes one of its bundles",
            "Reserve a bundle for each stage, or use fewer stages (executor.num_stages).",
        )
    return Reservation(group, need, first)


@dataclass(frozen=True)
class Room:
    """Stages, each on one node, that there is room for: ``now``, and ``ever`` with the nodes that may come."""

    now: int
    ever: int


def room(need: dict[str, float], cluster: ClusterConfig) -> Room:
    """Returns how many stages of this need a cluster can hold when nothing else runs on it."""
    now = sum(_stages_that_fit(node["Resources"], need) for node in ray.nodes() if node["Alive"])
    coming = sum(_stages_that_fit(node.resources, need) * node.most for node in node_types(cluster.autoscaler))
    return Room(now, max(now, coming))


def check_capacity(num_stages: int, need: dict[str, float], cluster: ClusterConfig) -> None:
    """Raises PlacementError where the cluster could never hold the stages, each on one node."""
    ever = room(need, cluster).ever
    if ever < num_stages:
        have = {name: ray.cluster_resources().get(name, 0) for name in need}
        num_nodes = sum(node["Alive"] for node in ray.nodes())
        num_coming = sum(node.most for node in node_types(cluster.autoscaler))
        more = f" and up to {num_coming} more to come" if num_coming else ""
        raise PlacementError(
            f"{_stages(num_stages)} {_amounts(need, num_stages)}; the cluster has {_amounts(have)} "
            f"on {num_nodes} node{'s' if num_nodes > 1 else ''}{more}, which is room for {ever}",
            "Each stage runs on a device of its own, and all of them at the same time",
            _mend(ever, num_stages, need, is_private=cluster.address is None),
        )


def _stages(count: int) -> str:
    return "1 stage needs" if count == 1 else f"{count} stages need"


def _mend(ever: int, num_stages: int, need: dict[str, float], *, is_private: bool) -> str:
    fewer = f"Use executor.num_stages={ever}" if ever else "Use a smaller executor.cpus_per_stage"
    if "GPU" in need:
        return f"{fewer}, or a fraction such as executor.gpus_per_stage=0.5."
    if is_private:
        return f"{fewer}, or let stages share cores with cluster.num_cpus={math.ceil(num_stages * need['CPU'])}."
    return f"{fewer}, or cluster.autoscaler=FILE where more nodes come when they are asked for."


def check_store(queued_bytes: int) -> None:
    """Raises PlacementError where the object store cannot hold what may be under way at once."""
    store_bytes = ray.cluster_resources().get("object_store_memory", 0)
    if queued_bytes > store_bytes:
        raise PlacementError(
            f"data and queues hold up to {queued_bytes / 2**20:,.0f} MiB; the cluster's object store has "
            f"{store_bytes / 2**20:,.0f} MiB",
            "Activations would be spilled to disk at every step",
            "Use a smaller data.batch_size or executor.queue_depth, or cluster.object_store_bytes=N.",
        )


def _stages_that_fit(resources: dict[str, float], need: dict[str, float]) -> int:
    return int(min(resources.get(name, 0) // amount for name, amount in need.items() if amount))


def _amounts(resources: Mapping[str, float], times: int = 1) -> str:
    return " and ".join(
        f"{resources.get(name, 0) * times:g} {name}{'s' if resources.get(name, 0) * times != 1 else ''}"
        for name in ("CPU", "GPU")
        if name in resources
    )


def _release(group: PlacementGroup) -> None:
    remove_placement_group(group)
    deadline_s = time.monotonic() + _RELEASE_TIMEOUT_S
    while placement_group_table(group).get("state") != "REMOVED" and time.monotonic() < deadline_s:
        time.sleep(0.02)
