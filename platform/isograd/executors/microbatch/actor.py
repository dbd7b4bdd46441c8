"""A stage of a pipeline that carries gradients, as a Ray actor and a rank of torch's process group."""

import fcntl
import logging
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Protocol

import ray
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from isograd.cluster.failure import NeighbourLostError
from isograd.cluster.last_words import leave_last_words, no_exit
from isograd.engine.program import Program
from isograd.events.events import Event
from isograd.executors.microbatch.plan import PiecePlan
from isograd.executors.microbatch.stage import MicrobatchStage
from isograd.local.learner import Learner

_SIOCGIFADDR = 0x8915  # Linux: address of a network interface


class PieceBuilder(Protocol):
    """Makes pieces of a network in the process that hosts them."""

    @property
    def num_units(self) -> int:
        """Units of the whole network."""
        ...

    def __call__(self, pieces: Sequence[range], device: torch.device) -> list[Learner]:
        """Builds pieces, each given by the positions of its units."""
        ...


class MicrobatchActor:
    """Hosts the pieces of one stage.

    Args:
        build: Makes its pieces.
        index: Of the stage, s.
        num_stages: S.
        threads: Of torch on the CPU.
        event_interval_s: Least time between two progress events.
    """

    def __init__(self, build: PieceBuilder, index: int, num_stages: int, threads: int, event_interval_s: float) -> None:
        leave_last_words()
        torch.set_num_threads(threads)
        logging.getLogger("torch.distributed.pipelining").setLevel(logging.CRITICAL)  # it prints whole schedules
        self._build, self._index, self._num_stages = build, index, num_stages
        self._event_interval_s = event_interval_s
        self._device = torch.device("cuda", 0) if ray.get_gpu_ids() else torch.device("cpu")
        self._stage: MicrobatchStage | None = None

    def open(self) -> tuple[str, int]:
        """Opens the meeting point of all stages, on this node's own address; returns host and port."""
        listener = socket.socket()
        host = ray.util.get_node_ip_address()
        listener.bind((host, 0))
        listener.listen()
        port = listener.getsockname()[1]
        self._store = TCPStore(host, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())
        return host, port

    def join(self, host: str, port: int) -> None:
        """Meets the other stages; returns when all are there."""
        interface = _interface(ray.util.get_node_ip_address())
        os.environ.update({"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": interface})
        store = self._store if self._index == 0 else TCPStore(host, port, is_master=False)
        backend = "nccl" if self._device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=self._index, world_size=self._num_stages)

    def arrange(self, plan: PiecePlan) -> None:
        """Builds this stage's pieces anew, with their initial weights."""
        learners = self._build([plan.units(piece) for piece in plan.pieces(self._index)], self._device)
        self._stage = MicrobatchStage(self._index, plan, learners, self._device, self._event_interval_s)

    def run(self, program: Program, evaluation: bool, records_steps: bool) -> Iterator[Event]:
        """Works through a program; yields what happens.

        Raises:
            NeighbourLostError: Another stage is no longer there.
        """
        self.stage.records_steps = records_steps
        messages = (program.evaluation if evaluation else program.messages)(self._device)
        try:
            with no_exit():
                yield from self.stage.run(messages)
        except (RuntimeError, ValueError) as error:
            if _is_lost_connection(error):
                raise NeighbourLostError(str(error).splitlines()[0]) from None
            raise

    @property
    def stage(self) -> MicrobatchStage:
        """What :meth:`arrange` has built."""
        assert self._stage is not None, "arranged before it is used"
        return self._stage

    def state(self) -> dict[str, Tensor]:
        """Returns the state of its pieces."""
        return self.stage.state()

    def check_state(self, state: dict[str, Tensor]) -> set[str]:
        """Returns the names that are its pieces'. Raises CheckpointError where they do not fit."""
        return self.stage.check_state(state)

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Puts its pieces into a state that has been checked."""
        self.stage.load_state(state)

    def process_id(self) -> int:
        """Returns the actor's process."""
        return os.getpid()


def _interface(address: str) -> str:
    """Returns the network interface that has an address, so that gloo listens on it and on no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            try:
                found = fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()))
            except OSError:  # it has no address
                continue
            if socket.inet_ntoa(found[20:24]) == address:
                return name
    raise AssertionError(f"no network interface has this node's address {address}")


def _is_lost_connection(error: Exception) -> bool:
    return isinstance(error, dist.DistError) or "gloo" in str(error)
