"""What the driver asks of all stages' actors together."""

from collections.abc import Sequence
from typing import Any

import ray
from torch import Tensor

from isograd.cluster import failure
from isograd.local.state import check_known


def state_of(actors: Sequence[Any]) -> dict[str, Tensor]:
    """Returns the state of all modules, gathered from the stages."""
    merged: dict[str, Tensor] = {}
    for part in failure.raise_cause([actor.state.remote() for actor in actors]):
        merged |= part
    return merged


def load_state(actors: Sequence[Any], state: dict[str, Tensor]) -> None:
    """Hands each stage the state of its modules. Raises CheckpointError; nothing is loaded then."""
    shared = ray.put(state)
    found = failure.raise_cause([actor.check_state.remote(shared) for actor in actors])
    check_known(state, set().union(*found))
    failure.raise_cause([actor.load_state.remote(shared) for actor in actors])
