"""Tensors by Ray's direct transport (RDT): the receiver fetches them from the sender's own memory.

Only Ray's one-sided transports can serve a pipeline, where every stage sends and no driver stands between:

* ``cuda_ipc``: stages that share one GPU; nothing is copied.
* ``nixl``: CPUs and GPUs, on one machine or several, where the package ``nixl`` is installed.

Its two-sided ones, ``gloo`` and ``nccl``, cannot: `ray.put` refuses them, references to their tensors may only be
passed by the process that made the group, and an actor can be in one group a backend (Ray 2.60). Between GPUs
``executor.channel=collective`` does the same by NCCL.

A reference travels within the parcel instead of as the call's own argument: so the receiving thread fetches it, into
memory of its own choice, and Ray's monitor of transfers, which kills both actors when one of them dies, has no part.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic

import torch
from torch import Tensor

from isograd.channels.channel import CHANNELS, Channel, Place, Way
from isograd.channels.delivery import Beside, Layout, Link, OnHost, flatten, in_place
from isograd.errors import ChannelError
from isograd.local.message import AnyMessage

CUDA_IPC, NIXL = "cuda_ipc", "nixl"


@dataclass(frozen=True)
class Handle(Generic[AnyMessage]):
    """A message whose tensors lie with the sender.

    Attributes:
        header: The message without tensors.
        layouts: Of its tensors by name.
        transport: By which they are fetched.
        references: Of the list of those that have bytes; none where none has.
    """

    header: AnyMessage
    layouts: dict[str, Layout]
    transport: str
    references: list[Any]


def offered(device: torch.device) -> frozenset[str]:
    """Returns Ray's one-sided transports that this process can use for tensors on ``device``."""
    return frozenset(name for name in (CUDA_IPC, NIXL) if _is_offered(name, device))


def transport(source: Place, target: Place) -> str:
    """Returns the best transport from one place to another; empty where there is none."""
    both = source.offers & target.offers
    if CUDA_IPC in both and source.gpu and (source.node, source.gpu) == (target.node, target.gpu):
        return CUDA_IPC
    return NIXL if NIXL in both else ""


class DirectLink:
    """Puts tensors at the receiver's disposal, and tells it by an actor call."""

    def __init__(self, transport: str, beside: Beside, deliver: Any) -> None:
        self._transport, self._beside, self._deliver = transport, beside, deliver

    def push(self, sequence: int, message: Any) -> Any:
        """Registers the tensors and returns the answer's reference, with the one that keeps them."""
        with self._beside():
            flats = {name: flatten(tensor) for name, tensor in message.tensors.items()}
            filled = [_whole(flat) for flat, _ in flats.values() if flat.numel()]
            self._beside.finish()
            references = [self._put(filled)] if filled else []
        layouts = {name: layout for name, (_, layout) in flats.items()}
        parcel = Handle(message.holding({}), layouts, self._transport, references)
        return self._deliver.remote(sequence, parcel), references

    def wait(self, delivery: Any) -> None:
        """Waits for the answer. Raises RayActorError where the actor is gone."""
        import ray

        ray.get(delivery[0])

    def _put(self, flats: list[Tensor]) -> Any:
        import ray

        return ray.put(flats, _tensor_transport=self._transport)


@CHANNELS.register("direct")
class DirectChannel(Channel):
    """Serves neighbours that share a GPU, and places with NIXL."""

    def __init__(self, places: Sequence[Place], device: torch.device) -> None:
        super().__init__(places, device)
        self._beside = Beside(device)
        self._lock = _lock()

    @classmethod
    def check(cls, places: Sequence[Place]) -> None:
        """Raises ChannelError where two stages have no one-sided transport between them."""
        for first in range(len(places)):
            for second in range(first + 1, len(places)):
                if not transport(places[first], places[second]):
                    raise _refusal(first, second, places[first])

    def connect(self, stage: int, ways: Sequence[Way], addresses: Sequence[str]) -> None:
        """Lets NIXL wait for this channel's stream before a transfer, not for all that the GPU computes."""
        if self.device.type == "cuda" and NIXL in self.places[stage].offers:
            from ray.experimental.rdt.util import set_nixl_cuda_stream

            set_nixl_cuda_stream(self._beside.stream)

    @property
    def staging(self) -> OnHost:
        """Leaves tensors where they are."""
        return in_place(self.device)

    def link(self, way: Way, deliver: Any) -> Link:
        """Returns what sends along a way."""
        return DirectLink(transport(self.places[way.source], self.places[way.target]), self._beside, deliver)

    def receive(self, parcel: Handle[Any]) -> Any:
        """Fetches the tensors of a message."""
        flats = iter(self._fetch(parcel, parcel.references[0]) if parcel.references else ())
        empty = torch.empty(0, dtype=torch.uint8, device=self.device)
        tensors = {
            name: layout.restore(next(flats) if layout.nbytes else empty) for name, layout in parcel.layouts.items()
        }
        return parcel.header.holding(tensors)

    def _fetch(self, parcel: Handle[Any], reference: Any) -> list[Tensor]:
        import ray
        from ray.experimental import set_target_for_ref

        with self._lock, self._beside():
            if parcel.transport == NIXL:
                # Ray's own buffers would come from the compute stream's memory, in which kernels may still be reading.
                buffers = [self._buffer(layout) for layout in parcel.layouts.values() if layout.nbytes]
                set_target_for_ref(reference, buffers)
            self._beside.finish()
            flats = ray.get(reference)
        _forget(reference)
        return flats

    def _buffer(self, layout: Layout) -> Tensor:
        return self._beside.hand_over(torch.empty(layout.nbytes, dtype=torch.uint8, device=self.device))


def _is_offered(name: str, device: torch.device) -> bool:
    try:
        from ray.experimental.rdt.util import get_tensor_transport_manager

        manager: Any = get_tensor_transport_manager(name.upper())
        if name == NIXL:
            manager.get_nixl_agent()
    except Exception:  # this Ray does not know it, or NIXL is missing or finds no way to talk: all mean the same
        return False
    return name == NIXL or device.type == "cuda"


def _lock() -> Any:
    """Returns what only one thread of a process may hold while it fetches: Ray's own lock of its NIXL transport.

    The agent that Ray makes does not lock, and Ray locks only what registers memory. A thread that fetches a newer
    message would also cut the connection under one that fetches an older one (ray-project/ray#65905).
    """
    from ray.experimental.rdt.util import get_tensor_transport_manager

    return getattr(get_tensor_transport_manager(NIXL.upper()), "_cache_lock", threading.Lock())


def _whole(flat: Tensor) -> Tensor:
    """NIXL registers whole storages: returns the bytes in one of their own."""
    return flat if flat.untyped_storage().nbytes() == flat.nbytes else flat.clone()


def _forget(reference: Any) -> None:
    """Drops what Ray notes about a borrowed reference; it would keep it for ever (ray-project/ray#57962)."""
    from ray._private.worker import global_worker

    manager: Any = global_worker.rdt_manager
    getattr(manager, "_managed_rdt_metadata", {}).pop(reference.hex(), None)


def _refusal(first: int, second: int, place: Place) -> ChannelError:
    import ray

    kind = "GPUs of their own" if place.gpu else "the CPU"
    return ChannelError(
        f"executor.channel=direct finds no way between stages {first} and {second} on {kind}: Ray {ray.__version__} "
        f"offers them {' and '.join(sorted(place.offers)) or 'no one-sided transport'}",
        "Its gloo and nccl transports need one process that passes all references, which would put the driver between "
        "the stages; cuda_ipc needs stages on one GPU, nixl a package of that name",
        "Use executor.channel=auto, or install nixl where the stages run.",
    )
