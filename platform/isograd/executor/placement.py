"""Devices for the stages, reserved together or not at all."""

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

from isograd.config.schema import ExecutorConfig
from isograd.errors import PlacementError

_RELEASE_TIMEOUT_S = 3.0


def bundle(config: ExecutorConfig) -> dict[str, float]:
    """Returns what one stage reserves, and thereby decides the device: a GPU where the cluster has any.

    Raises:
        PlacementError: ``executor.device=cuda`` on a cluster without GPUs.
    """
    num_gpus = ray.cluster_resources().get("GPU", 0)
    if config.device == "cuda" and not num_gpus:
        raise PlacementError(
            "executor.device=cuda, but the cluster has 0 GPUs",
            "Each stage needs one",
            "Use executor.device=auto or executor.device=cpu.",
        )
    if config.device == "cpu" or not num_gpus:
        return {"CPU": config.cpus_per_stage}
    return {"CPU": config.cpus_per_stage, "GPU": config.gpus_per_stage}


@dataclass(frozen=True)
class Reservation:
    """Bundles for stages.

    Attributes:
        group: The placement group.
        first: Index of the first stage's bundle; those of the others follow.
    """

    group: PlacementGroup
    first: int = 0

    def of(self, stage: int) -> PlacementGroupSchedulingStrategy:
        """Returns where a stage's actor goes."""
        return PlacementGroupSchedulingStrategy(self.group, placement_group_bundle_index=self.first + stage)


@contextmanager
def reserved(num_stages: int, need: dict[str, float]) -> Iterator[Reservation]:
    """Reserves ``need`` for each of ``num_stages`` stages in one placement group; gives it back afterwards.

    Where this process itself runs in a placement group, as a trial of Ray Tune does, the stages go into the last
    bundles of that one, which stays.

    Raises:
        PlacementError: The cluster does not have it, or others hold it. Said at once, with the numbers.
    """
    own = get_current_placement_group()
    if own is not None:
        yield _within(own, num_stages, need)
        return
    check_capacity(num_stages, need)
    group = placement_group([need] * num_stages, strategy="PACK")
    try:
        if not group.wait(timeout_seconds=_RELEASE_TIMEOUT_S):
            free = ray.available_resources()
            raise PlacementError(
                f"{num_stages} stages need {_amounts(need, num_stages)}; free are {_amounts(free)}",
                "Other jobs hold the rest, and all stages have to start together",
                "Wait for them, or use fewer stages (executor.num_stages).",
            )
        yield Reservation(group)
    finally:
        _release(group)


def _within(group: PlacementGroup, num_stages: int, need: dict[str, float]) -> Reservation:
    first = group.bundle_count - num_stages
    fits = first >= 0 and all(
        bundle.get(name, 0) >= amount for bundle in group.bundle_specs[first:] for name, amount in need.items()
    )
    if not fits:
        raise PlacementError(
            f"{num_stages} stages need {_amounts(need, num_stages)}; this process's placement group has "
            f"{group.bundle_count} bundles: {group.bundle_specs}",
            "Each stage takes one of its bundles",
            "Reserve a bundle for each stage, or use fewer stages (executor.num_stages).",
        )
    return Reservation(group, first)


def check_capacity(num_stages: int, need: dict[str, float]) -> None:
    """Raises PlacementError where the cluster could never hold the stages, each on one node."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(_stages_that_fit(resources, need) for resources in nodes)
    if room < num_stages:
        have = {name: ray.cluster_resources().get(name, 0) for name in need}
        raise PlacementError(
            f"{num_stages} stages need {_amounts(need, num_stages)}; the cluster has {_amounts(have)} "
            f"on {len(nodes)} node{'s' if len(nodes) > 1 else ''}, which is room for {room}",
            "Each stage runs on a device of its own, and all of them at the same time",
            f"Use executor.num_stages={max(room, 1)}, or let stages share cores with cluster.num_cpus={num_stages}."
            if "GPU" not in need
            else f"Use executor.num_stages={max(room, 1)}, or a fraction such as executor.gpus_per_stage=0.5.",
        )


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
