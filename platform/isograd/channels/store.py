"""Messages by value through Ray's object store.

The sender's call copies the arrays into the store once; a receiver on the same machine reads them there without a copy.
"""

from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
from torch import Tensor

from isograd.channels.channel import CHANNELS, Channel, Way
from isograd.channels.delivery import Layout, Link, flatten
from isograd.data.shared import as_tensor
from isograd.local.message import AnyMessage


@dataclass(frozen=True)
class Packed:
    """A tensor as an array that pickles out of band, so that the object store holds its bytes once.

    Attributes:
        array: Its bytes in memory order, (nbytes,).
        layout: What they mean.
    """

    array: np.ndarray
    layout: Layout


def pack(tensor: Tensor) -> Packed:
    """Packs a CPU tensor, keeping bits, dtype and memory order; copies only what has gaps in memory."""
    flat, layout = flatten(tensor)
    return Packed(flat.numpy(), layout)


def unpack(packed: Packed) -> Tensor:
    """Returns the tensor over the array's own memory; it must not be written to."""
    return packed.layout.restore(as_tensor(packed.array))


@dataclass(frozen=True)
class Envelope(Generic[AnyMessage]):
    """A message on the wire: its header, which is the message without tensors, and its packed tensors by name."""

    header: AnyMessage
    tensors: dict[str, Packed]


def seal(message: AnyMessage) -> Envelope[AnyMessage]:
    """Packs a message whose tensors are on the CPU."""
    return Envelope(message.holding({}), {name: pack(tensor) for name, tensor in message.tensors.items()})


def open_envelope(envelope: Envelope[AnyMessage]) -> AnyMessage:
    """Unpacks a message over the envelope's memory."""
    return envelope.header.holding({name: unpack(packed) for name, packed in envelope.tensors.items()})


class StoreLink:
    """Deliveries as calls of an actor's method. Large arrays go through Ray's object store."""

    def __init__(self, deliver: Any) -> None:
        self._deliver = deliver

    def push(self, sequence: int, message: Any) -> Any:
        """Calls the method and returns the reference of its answer."""
        return self._deliver.remote(sequence, seal(message))

    def wait(self, delivery: Any) -> None:
        """Waits for that answer. Raises RayActorError where the actor is gone."""
        import ray

        ray.get(delivery)


@CHANNELS.register("store")
class StoreChannel(Channel):
    """Serves every place. A GPU's tensors are copied to the host and from it."""

    def link(self, way: Way, deliver: Any) -> Link:
        """Returns what seals messages and sends them."""
        return StoreLink(deliver)

    def receive(self, parcel: Envelope[Any]) -> Any:
        """Opens an envelope; nothing is copied."""
        return open_envelope(parcel)
