"""The link between two stages: messages over Ray's object store, in order, a bounded number at a time.

A sender thread takes messages from the compute thread and pushes each, by an actor call, into the next stage's inbox.
Ray copies the arrays into the object store while that stage already runs its backward pass, and the receiver reads
them there without a copy. A call returns when the receiver's compute thread has taken its message; that is the credit
for another one. So at most ``queue_depth`` messages wait between two stages, plus the one that is being sent.

Nothing in this file needs Ray but :class:`ActorLink`.
"""

import queue
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol

import numpy as np
import torch
from torch import Tensor

from isograd.data.shared import as_tensor
from isograd.local.message import AnyMessage, Kind, Message, Upward


@dataclass(frozen=True)
class Packed:
    """A tensor as an array that pickles out of band, so that the object store holds its bytes once.

    Attributes:
        array: The elements in storage order, (numel,); bfloat16, which NumPy does not know, as int16.
        bfloat16: Whether the array's bits are bfloat16.
        shape: Of the tensor.
        strides: Of the tensor, in elements. Kernels choose by them, so they are part of what has to arrive unchanged.
    """

    array: np.ndarray
    bfloat16: bool
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def pack(tensor: Tensor) -> Packed:
    """Packs a CPU tensor, keeping bits, dtype and memory order; copies only what has gaps in memory."""
    dense = tensor if _is_dense(tensor) else tensor.contiguous()
    flat = dense.as_strided((dense.numel(),), (1,))
    bfloat16 = tensor.dtype == torch.bfloat16
    return Packed((flat.view(torch.int16) if bfloat16 else flat).numpy(), bfloat16, tuple(dense.shape), dense.stride())


def unpack(packed: Packed) -> Tensor:
    """Returns the tensor over the array's own memory; it must not be written to."""
    flat = as_tensor(packed.array)
    return (flat.view(torch.bfloat16) if packed.bfloat16 else flat).as_strided(packed.shape, packed.strides)


def _is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill their memory without gaps or overlaps, in whatever order of axes."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True


@dataclass(frozen=True)
class Envelope(Generic[AnyMessage]):
    """A message on the wire: its header, which is the message without tensors, and its packed tensors by name."""

    header: AnyMessage
    tensors: dict[str, Packed]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(packed.array.nbytes for packed in self.tensors.values())


def seal(message: AnyMessage) -> Envelope[AnyMessage]:
    """Packs a message whose tensors are on the CPU."""
    return Envelope(message.holding({}), {name: pack(tensor) for name, tensor in message.tensors.items()})


def open_envelope(envelope: Envelope[AnyMessage]) -> AnyMessage:
    """Unpacks a message over the envelope's memory."""
    return envelope.header.holding({name: unpack(packed) for name, packed in envelope.tensors.items()})


class Inbox:
    """Messages that have arrived, handed out in the order in which they were sent.

    Deliveries may overtake each other between threads, so each carries its sequence number.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[int, Envelope[Message]] = {}
        self._taken: set[int] = set()
        self._next = 0

    def deliver(self, sequence: int, envelope: Envelope[Message]) -> None:
        """Puts a message in; returns once the consumer has taken it."""
        with self._changed:
            self._waiting[sequence] = envelope
            self._changed.notify_all()
            self._changed.wait_for(lambda: sequence in self._taken)
            self._taken.remove(sequence)

    def take(self) -> Envelope[Message]:
        """Waits for the next message in order and takes it. After the one that ends a program, counting starts anew."""
        with self._changed:
            self._changed.wait_for(lambda: self._next in self._waiting)
            envelope = self._waiting.pop(self._next)
            self._taken.add(self._next)
            self._next = 0 if envelope.header.kind is Kind.END else self._next + 1
            self._changed.notify_all()
            return envelope

    def messages(self) -> Iterator[Message]:
        """Yields messages up to the one that ends a program."""
        while True:
            message = open_envelope(self.take())
            yield message
            if message.kind is Kind.END:
                return


class Link(Protocol):
    """Delivers envelopes to another stage."""

    def push(self, sequence: int, envelope: Envelope[Any]) -> Any:
        """Starts a delivery and returns its handle."""
        ...

    def wait(self, delivery: Any) -> None:
        """Returns when the delivery's message has been taken; raises where it never will be."""
        ...


class ActorLink:
    """Deliveries as calls of the next stage's actor. Large arrays go through Ray's object store."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def push(self, sequence: int, envelope: Envelope[Message]) -> Any:
        """Calls the actor's ``deliver`` and returns the reference of its answer."""
        return self._actor.deliver.remote(sequence, envelope)

    def wait(self, delivery: Any) -> None:
        """Waits for that answer. Raises RayActorError where the actor is gone."""
        import ray

        ray.get(delivery)


class UpwardLink(ActorLink):
    """Deliveries to an earlier stage, which keeps them until it needs them; so a delivery never waits for its use.

    No more can pile up than the receiver itself has asked for: a later stage never is ahead of an earlier one.
    """

    def push(self, sequence: int, envelope: Envelope[Upward]) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Calls the actor's ``deliver_upward`` and returns the reference of its answer."""
        return self._actor.deliver_upward.remote(envelope)


class OnHost:
    """Brings messages to the CPU where they are there already."""

    def mark(self) -> Any:
        """Notes, on the compute thread, that a message's tensors have been enqueued."""
        return None

    def bring(self, message: AnyMessage, mark: Any) -> AnyMessage:
        """Returns the message with its tensors on the CPU, complete."""
        return message


class FromDevice(OnHost):
    """Copies a message's tensors to pinned memory on a stream of its own, beside the computation."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)

    def mark(self) -> Any:
        """Records, on the compute stream, the moment at which the tensors exist."""
        event = torch.cuda.Event()
        event.record()
        return event

    def bring(self, message: AnyMessage, mark: Any) -> AnyMessage:
        """Copies the message to pinned memory once that moment has passed, and waits for the copy."""
        if not message.tensors:
            return message
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(mark)
            copies = {name: self._copy(tensor) for name, tensor in message.tensors.items()}
        self._stream.synchronize()
        return message.holding(copies)

    def _copy(self, tensor: Tensor) -> Tensor:
        tensor.record_stream(self._stream)
        return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)


def host_copy(device: torch.device) -> OnHost:
    """Returns what brings messages of ``device`` to the CPU."""
    return FromDevice(device) if device.type == "cuda" else OnHost()


class SendingOutbox:
    """A bounded queue to another stage, emptied by a thread of its own. Implements ``stage.Outbox``.

    Args:
        link: Delivers to that stage.
        queue_depth: Messages that may be under way at once.
        host_copy: Brings messages to the CPU, from the sender thread.
    """

    def __init__(self, link: Link, queue_depth: int, host_copy: OnHost) -> None:
        self.sent_bytes = 0
        self._link, self._depth, self._host_copy = link, queue_depth, host_copy
        self._handoff: queue.Queue[tuple[Any, Any] | None] = queue.Queue(maxsize=1)
        self._under_way: deque[Any] = deque()
        self._sequence = 0
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="isograd-sender", daemon=True)
        self._thread.start()

    def send(self, message: Message | Upward) -> None:
        """Takes a message; waits while another one is still being handed over."""
        self._put((message, self._host_copy.mark()))

    def close(self) -> None:
        """Returns once everything has been delivered. Raises what the sender thread met."""
        self._put(None)
        self._thread.join()
        self._raise()

    def _put(self, item: tuple[Any, Any] | None) -> None:
        while True:
            self._raise()
            try:
                return self._handoff.put(item, timeout=1.0)
            except queue.Full:
                continue

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            while self._send_one():
                pass
            while self._under_way:
                self._link.wait(self._under_way.popleft())
        except BaseException as error:
            self._error = error

    def _send_one(self) -> bool:
        if len(self._under_way) >= self._depth:
            self._link.wait(self._under_way.popleft())
        item = self._handoff.get()
        if item is None:
            return False
        envelope = seal(self._host_copy.bring(*item))
        self.sent_bytes += envelope.nbytes
        self._under_way.append(self._link.push(self._sequence, envelope))
        self._sequence += 1
        return True
