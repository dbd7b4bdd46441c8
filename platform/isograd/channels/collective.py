"""Tensors by a process group of two ranks a way: gloo on the CPU, NCCL between GPUs. Headers by the actor call.

``ray.util.collective`` cannot serve a chain: its gloo group takes the process's default group and sends within that one
whatever group was named (Ray 2.60), so that a process can be in one group only, but a stage has two neighbours. The
groups here are torch's own, beside the default group, which stays free for others.

A tensor is on its way before its header is, and is only received once the header has come. So no thread and no kernel
waits long for a peer, and a dead stage is noticed by the call, as with the object store. Sockets, groups and threads
belong to the stages' processes and end with them, when the pipeline ends.
"""

import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic

import torch
import torch.distributed as dist

from isograd.channels.channel import CHANNELS, Channel, Place, Way
from isograd.channels.delivery import Beside, Layout, Link, OnHost, flatten, in_place
from isograd.errors import ChannelError
from isograd.local.message import AnyMessage

c10d: Any = dist  # its stores and groups are made in C++, which type checkers do not see
_SOURCE, _TARGET = 0, 1  # ranks in a way's group
_SETUP_TIMEOUT = timedelta(seconds=60)


@dataclass(frozen=True)
class Announcement(Generic[AnyMessage]):
    """A message whose tensors travel by the way's group.

    Attributes:
        way: Which.
        number: Of messages sent along the way before, over all programs.
        header: The message without tensors.
        layouts: Of its tensors by name, in the order in which they are sent.
    """

    way: Way
    number: int
    header: AnyMessage
    layouts: dict[str, Layout]


class Turns:
    """Lets threads receive in the order in which the peer has sent."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._next = 0

    @contextmanager
    def turn(self, number: int) -> Iterator[None]:
        """Waits until all before ``number`` are through."""
        with self._changed:
            self._changed.wait_for(lambda: self._next == number)
        try:
            yield
        finally:
            with self._changed:
                self._next += 1
                self._changed.notify_all()


class GroupLink:
    """Sends tensors by a group and headers by an actor call."""

    def __init__(self, way: Way, group: Any, beside: Beside, deliver: Any) -> None:
        self._way, self._group, self._beside, self._deliver = way, group, beside, deliver
        self._count = 0

    def push(self, sequence: int, message: Any) -> Any:
        """Starts sending the tensors, announces them, and returns the answer's reference with what is being sent.

        Raises:
            ConnectionError: The other stage is gone.
        """
        with self._beside():
            flats = {name: flatten(tensor) for name, tensor in message.tensors.items()}
            sends = [(self._send(flat), flat) for flat, _ in flats.values() if flat.numel()]
        layouts = {name: layout for name, (_, layout) in flats.items()}
        parcel = Announcement(self._way, self._count, message.holding({}), layouts)
        self._count += 1
        return self._deliver.remote(sequence, parcel), sends

    def wait(self, delivery: Any) -> None:
        """Waits for the answer; all has been sent then. Raises RayActorError where the actor is gone."""
        import ray

        answer, sends = delivery
        ray.get(answer)
        with self._beside():
            for work, _ in sends:
                work.wait()

    def _send(self, flat: torch.Tensor) -> Any:
        try:
            return self._group.send([flat], _TARGET, 0)
        except RuntimeError as error:  # for the driver, a consequence: it asks who died
            raise ConnectionError(f"stage {self._way.target} is not reached: {error}") from error


@CHANNELS.register("collective")
class CollectiveChannel(Channel):
    """Serves stages that all compute on CPUs, or each on a GPU of its own."""

    def __init__(self, places: Sequence[Place], device: torch.device) -> None:
        super().__init__(places, device)
        self._beside = Beside(device)
        self._server: Any = None
        self._groups: dict[Way, Any] = {}
        self._links: dict[Way, GroupLink] = {}
        self._turns: dict[Way, Turns] = {}

    @classmethod
    def check(cls, places: Sequence[Place]) -> None:
        """Raises ChannelError where torch lacks the backend, or stages share a GPU."""
        gpus = [(place.node, place.gpu) for place in places if place.gpu]
        backend, is_built = ("NCCL", dist.is_nccl_available) if gpus else ("gloo", dist.is_gloo_available)
        if not (dist.is_available() and is_built()):
            raise ChannelError(
                f"executor.channel=collective needs {backend}, which this build of torch {torch.__version__} lacks",
                "Tensors would have no way between the stages",
                "Use executor.channel=store, or another build of torch.",
            )
        if len(set(gpus)) < len(gpus):
            raise ChannelError(
                f"executor.channel=collective cannot connect {len(gpus)} stages on {len(set(gpus))} GPUs",
                "NCCL refuses two ranks on one GPU",
                "Use executor.channel=auto, or a GPU a stage (executor.gpus_per_stage=1).",
            )

    def listen(self) -> str:
        """Starts the store by which others find this stage's groups, on the node's address as Ray knows it."""
        import ray

        host = ray.util.get_node_ip_address()
        with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
            port = listening.getsockname()[1]
            self._server = c10d.TCPStore(
                host,
                port,
                is_master=True,
                timeout=_SETUP_TIMEOUT,
                wait_for_workers=False,
                master_listen_fd=listening.detach(),  # torch itself would listen on all addresses
            )
        return f"{host} {port}"

    def connect(self, stage: int, ways: Sequence[Way], addresses: Sequence[str]) -> None:
        """Makes this stage's groups; all stages make theirs in the same order, so no two wait for each other."""
        for way in sorted(ways):
            if stage not in (way.source, way.target):
                continue
            store = self._server if stage == way.target else self._client(addresses[way.target])
            rank = _TARGET if stage == way.target else _SOURCE
            self._groups[way] = self._group(c10d.PrefixStore(f"{way.source}-{way.target}", store), rank)
            self._turns[way] = Turns()
            self._greet(self._groups[way], rank)

    @property
    def staging(self) -> OnHost:
        """Leaves tensors where they are."""
        return in_place(self.device)

    def link(self, way: Way, deliver: Any) -> Link:
        """Returns what sends along a way; the same in all programs, since it counts."""
        if way not in self._links:
            self._links[way] = GroupLink(way, self._groups[way], self._beside, deliver)
        return self._links[way]

    def receive(self, parcel: Announcement[Any]) -> Any:
        """Receives the tensors of an announced message, in its turn."""
        with self._turns[parcel.way].turn(parcel.number):
            tensors = {name: self._receive(parcel.way, layout) for name, layout in parcel.layouts.items()}
            self._beside.finish()
        return parcel.header.holding(tensors)

    def _receive(self, way: Way, layout: Layout) -> torch.Tensor:
        with self._beside():
            flat = torch.empty(layout.nbytes, dtype=torch.uint8, device=self.device)
            if flat.numel():
                self._groups[way].recv([flat], _SOURCE, 0).wait()
            return layout.restore(self._beside.hand_over(flat))

    def _greet(self, group: Any, rank: int) -> None:
        """Sends a byte, so that a way that does not work is known before the run starts."""
        with self._beside():
            byte = torch.zeros(1, dtype=torch.uint8, device=self.device)
            (group.send([byte], _TARGET, 0) if rank == _SOURCE else group.recv([byte], _SOURCE, 0)).wait()
        self._beside.finish()

    def _client(self, address: str) -> Any:
        host, port = address.split()
        return c10d.TCPStore(host, int(port), is_master=False, timeout=_SETUP_TIMEOUT, wait_for_workers=False)

    def _group(self, store: Any, rank: int) -> Any:
        return _nccl(store, rank) if self.device.type == "cuda" else _gloo(store, rank, self._server.host)


def _gloo(store: Any, rank: int, host: str) -> Any:
    options = c10d.ProcessGroupGloo._Options()
    options._devices = [c10d.ProcessGroupGloo.create_device(hostname=host)]  # listen there and nowhere else
    options._threads = 1
    options._timeout = _SETUP_TIMEOUT
    return c10d.ProcessGroupGloo(store, rank, 2, options)


def _nccl(store: Any, rank: int) -> Any:
    # The driver sees a dead stage by its calls, and says which it was. NCCL's watchdog would end its neighbours too.
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
    options = c10d.ProcessGroupNCCL.Options()
    options._timeout = _SETUP_TIMEOUT
    return c10d.ProcessGroupNCCL(store, rank, 2, options)
