"""The contract of a channel, the names under which one can be asked for, and which one ``auto`` takes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from isograd.channels.delivery import Link, OnHost, host_copy
from isograd.errors import ChannelError
from isograd.registry import Registry

AUTO = "auto"

# What `auto` tries, best first. On the CPU the object store is the only one whose receiver copies nothing; it needs the
# least of the cores that compute (`isograd bench channels`). On GPUs the others spare both copies to the host.
PREFERRED = {"cpu": ("store",), "cuda": ("direct", "collective", "store")}


@dataclass(frozen=True)
class Place:
    """Where a stage runs.

    Attributes:
        node: Identifies the machine.
        gpu: Identifies its GPU on that machine; empty: it computes on the CPU.
        offers: Ray's one-sided direct transports that its process can use.
    """

    node: str
    gpu: str = ""
    offers: frozenset[str] = frozenset()


@dataclass(frozen=True, order=True)
class Way:
    """A directed connection, from the stage ``source`` to the stage ``target``.

    Activations go down to the next stage, gradients and weights up to an earlier one, all by the same channel: what
    goes up is as large, and as urgent, as what goes down.
    """

    source: int
    target: int


class Channel(ABC):
    """A pipeline's transport, as one object in the process of each stage.

    It is made, then listens, then connects; what it holds ends with the process, hence with the pipeline.

    Args:
        places: Of all stages, in order.
        device: Of this process's stage.
    """

    def __init__(self, places: Sequence[Place], device: torch.device) -> None:
        self.places, self.device = tuple(places), device

    @classmethod  # noqa: B027
    def check(cls, places: Sequence[Place]) -> None:
        """Raises ChannelError where it cannot connect stages at these places."""

    def listen(self) -> str:
        """Returns the address at which other stages can reach this one; empty where none is needed."""
        return ""

    def connect(self, stage: int, ways: Sequence[Way], addresses: Sequence[str]) -> None:  # noqa: B027
        """Connects a stage with the others, while they do the same.

        Args:
            stage: This one.
            ways: All of the pipeline.
            addresses: What each stage's ``listen`` returned.
        """

    @property
    def staging(self) -> OnHost:
        """Brings messages where the links want their tensors: by default, to the CPU."""
        return host_copy(self.device)

    @abstractmethod
    def link(self, way: Way, deliver: Any) -> Link:
        """Returns what sends along a way from this stage.

        Args:
            way: One of those that it is connected with.
            deliver: The method of the target's actor to call with a sequence number and a parcel.
        """

    @abstractmethod
    def receive(self, parcel: Any) -> Any:
        """Returns the message of a parcel that has been delivered to this stage, complete; runs beside the computation.

        The message's tensors must not be written to.
        """


def choose(asked: str, places: Sequence[Place]) -> str:
    """Returns the name of the channel for stages at these places.

    Raises:
        ChannelError: The one that was asked for cannot connect them.
    """
    if asked != AUTO:
        CHANNELS.get(asked).check(places)
        return asked
    on_gpus = all(place.gpu for place in places)
    return next(name for name in PREFERRED["cuda" if on_gpus else "cpu"] if _serves(name, places))


def _serves(name: str, places: Sequence[Place]) -> bool:
    try:
        CHANNELS.get(name).check(places)
    except ChannelError:
        return False
    return True


CHANNELS: Registry[type[Channel]] = Registry("channel", "isograd.channels", "isograd.channels")
