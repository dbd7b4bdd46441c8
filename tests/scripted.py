"""Stages that compute nothing: they send what a script says, and describe what arrives. For tests of channels."""

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from isograd.channels.delivery import flatten
from isograd.channels.outbox import Nowhere
from isograd.engine.stage import Stage
from isograd.engine.upward import Routes, UpwardExchange
from isograd.local.message import Kind, Message, Upward, gradient_key


@dataclass(frozen=True)
class Described:
    """A tensor by what has to arrive unchanged; ``mapping`` says in which memory it lies, ``version`` its writes."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    digest: str
    mapping: str = ""
    version: int = 0


def described(tensors: Mapping[str, Tensor]) -> dict[str, Described]:
    found = {}
    for name, tensor in tensors.items():
        flat, layout = flatten(tensor)
        digest = hashlib.sha256(flat.cpu().numpy().data).hexdigest()
        mapping = "" if tensor.is_cuda else _mapping(tensor.data_ptr())
        found[name] = Described(layout.dtype, layout.shape, layout.strides, digest, mapping, tensor._version)
    return found


@dataclass(frozen=True)
class Sent:
    """That a send has returned, at ``at_s`` by the host's clock."""

    step: int
    at_s: float


@dataclass(frozen=True)
class Arrived:
    """That the compute thread of ``stage`` has a message, with the tensors it holds."""

    stage: int
    step: int
    tensors: dict[str, Described]


@dataclass(frozen=True)
class Script:
    """What the first stage sends."""

    values: Sequence[Any]

    def messages(self, device: torch.device) -> Iterator[Message]:
        for message in self.values:
            yield message.to(device)
        yield Message(Kind.END, 1, step=len(self.values))


class Answering(UpwardExchange):
    """Lets the second stage send to the first."""

    def targets(self, modules: Sequence[Any]) -> list[int]:
        return [self._stage - 1] if self._stage else []


class ScriptedStage(Stage):
    """Sends what it is told, or describes what arrives and sends the value up again.

    It keeps a message that has a ``number`` until the file ``gate`` exists.
    """

    def __init__(self, index: int, device: torch.device, gate: Path) -> None:
        super().__init__(index, [], Nowhere(), device=device)
        self.upward = Answering(index, Routes(), device)
        self._gate = gate

    def run(self, messages: Iterable[Message]) -> Iterator[Any]:
        for message in messages:
            yield from self._receive(message) if self.index else self._tell(message)
        self.outbox.close()
        for link in self.upward.links.values():
            link.close()

    def _tell(self, message: Message) -> Iterator[Any]:
        self.outbox.send(message)
        yield Sent(message.step, time.perf_counter())
        if message.kind is Kind.EVALUATE:  # asks for an answer
            answer = self.upward.mailbox.take(gradient_key(0), message.step, 0)
            yield self._arrived(message.step, answer.tensors)

    def _receive(self, message: Message) -> Iterator[Any]:
        yield self._arrived(message.step, message.tensors)
        while message.number and not self._gate.exists():
            time.sleep(0.01)
        if message.kind is Kind.EVALUATE:
            self.upward.links[self.index - 1].send(Upward(gradient_key(0), message.step, message.tensors))

    def _arrived(self, step: int, tensors: Mapping[str, Tensor]) -> Arrived:
        return Arrived(self.index, step, described(tensors))


@dataclass(frozen=True)
class ScriptedBuilder:
    """Builds a scripted stage in its actor."""

    index: int
    gate: Path

    def __call__(self, device: torch.device) -> Stage:
        return ScriptedStage(self.index, device, self.gate)


def _mapping(address: int) -> str:
    """Returns the permissions and path of the memory at an address."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, permissions, *rest = line.split()
            first, last = (int(end, 16) for end in span.split("-"))
            if first <= address < last:
                return f"{permissions} {rest[3] if len(rest) > 3 else ''}"
    return ""
