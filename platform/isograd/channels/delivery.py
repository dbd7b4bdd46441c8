"""What all channels share: how a tensor is laid out on the wire, how messages are sent, and how they wait.

A sender thread takes messages from the compute thread and gives each to a link, which brings it into the next stage's
inbox while both stages go on computing. A delivery ends when the receiver's compute thread has taken the message; that
is the credit for another one. So at most ``queue_depth`` messages wait between two stages, plus the one that is being
sent. How a link moves the tensors is the channel's affair: see :mod:`isograd.channels`.

Nothing in this file needs Ray.
"""

import queue
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from isograd.local.message import AnyMessage, Kind, Message, Upward


@dataclass(frozen=True)
class Layout:
    """What a tensor's bytes mean.

    Attributes:
        dtype: Of the tensor.
        shape: Of the tensor.
        strides: Of the tensor, in elements. Kernels choose by them, so they are part of what has to arrive unchanged.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor; it has no gaps."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    def restore(self, flat: Tensor) -> Tensor:
        """Returns the tensor over the memory of its bytes."""
        return flat.view(self.dtype).as_strided(self.shape, self.strides)


def flatten(tensor: Tensor) -> tuple[Tensor, Layout]:
    """Returns a tensor's bytes in memory order, (nbytes,) uint8, and its layout; copies only what has gaps."""
    dense = tensor if _is_dense(tensor) else tensor.contiguous()
    flat = dense.as_strided((dense.numel(),), (1,)).view(torch.uint8)
    return flat, Layout(tensor.dtype, tuple(dense.shape), dense.stride())


def _is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill their memory without gaps or overlaps, in whatever order of axes."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True


class Inbox:
    """Messages that have arrived, handed out in the order in which they were sent.

    Deliveries may overtake each other between threads, so each carries its sequence number.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[int, Message] = {}
        self._taken: set[int] = set()
        self._next = 0

    def deliver(self, sequence: int, message: Message) -> None:
        """Puts a message in; returns once the consumer has taken it."""
        with self._changed:
            self._waiting[sequence] = message
            self._changed.notify_all()
            self._changed.wait_for(lambda: sequence in self._taken)
            self._taken.remove(sequence)

    def take(self) -> Message:
        """Waits for the next message in order and takes it. After the one that ends a program, counting starts anew."""
        with self._changed:
            self._changed.wait_for(lambda: self._next in self._waiting)
            message = self._waiting.pop(self._next)
            self._taken.add(self._next)
            self._next = 0 if message.kind is Kind.END else self._next + 1
            self._changed.notify_all()
            return message

    def messages(self) -> Iterator[Message]:
        """Yields messages up to the one that ends a program."""
        while True:
            message = self.take()
            yield message
            if message.kind is Kind.END:
                return


class Link(Protocol):
    """Delivers messages to another stage."""

    def push(self, sequence: int, message: Any) -> Any:
        """Starts a delivery and returns its handle, which keeps alive what the delivery needs."""
        ...

    def wait(self, delivery: Any) -> None:
        """Returns when the delivery's message has been taken; raises where it never will be."""
        ...


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


class OnDevice(OnHost):
    """Leaves a message's tensors on the GPU, and waits until they exist there."""

    def mark(self) -> Any:
        """Records, on the compute stream, the moment at which the tensors exist."""
        event = torch.cuda.Event(blocking=True)
        event.record()
        return event

    def bring(self, message: AnyMessage, mark: Any) -> AnyMessage:
        """Returns the message once that moment has passed; what is computed after it goes on."""
        mark.synchronize()
        return message


def host_copy(device: torch.device) -> OnHost:
    """Returns what brings messages of ``device`` to the CPU."""
    return FromDevice(device) if device.type == "cuda" else OnHost()


def in_place(device: torch.device) -> OnHost:
    """Returns what leaves messages on ``device``, complete."""
    return OnDevice() if device.type == "cuda" else OnHost()


class Beside:
    """A CUDA stream of a channel's own, beside the computation; on the CPU, nothing.

    Attributes:
        stream: It, or None.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self) -> AbstractContextManager[Any]:
        """Returns a context in which work goes to the stream."""
        return torch.cuda.stream(self.stream)

    def finish(self) -> None:
        """Waits for the stream's work."""
        if self.stream is not None:
            self.stream.synchronize()

    def hand_over(self, tensor: Tensor) -> Tensor:
        """Returns a tensor made on the stream, whose memory is kept until what computes with it is done."""
        if self.stream is not None:
            tensor.record_stream(torch.cuda.default_stream(self._device))
        return tensor


class SendingOutbox:
    """A bounded queue to another stage, emptied by a thread of its own. Implements ``stage.Outbox``.

    Args:
        link: Delivers to that stage.
        queue_depth: Messages that may be under way at once.
        staging: Brings messages where the link wants them, from the sender thread.
    """

    def __init__(self, link: Link, queue_depth: int, staging: OnHost) -> None:
        self.sent_bytes = 0
        self._link, self._depth, self._staging = link, queue_depth, staging
        self._handoff: queue.Queue[tuple[Any, Any] | None] = queue.Queue(maxsize=1)
        self._under_way: deque[Any] = deque()
        self._sequence = 0
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="isograd-sender", daemon=True)
        self._thread.start()

    def send(self, message: Message | Upward) -> None:
        """Takes a message; waits while another one is still being handed over."""
        self._put((message, self._staging.mark()))

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
        message = self._staging.bring(*item)
        self.sent_bytes += sum(tensor.nbytes for tensor in message.tensors.values())
        self._under_way.append(self._link.push(self._sequence, message))
        self._sequence += 1
        return True
