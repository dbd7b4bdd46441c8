"""The way up: what a stage receives from later stages, and its links to earlier ones.

Everything is addressed by key and step, so what a module learns from does not depend on the order of arrival.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from isograd.channels.outbox import Outbox
from isograd.data.field import Tree
from isograd.local.ema import EMA
from isograd.local.exchange import Window
from isograd.local.message import Upward, gradient_key, weights_key
from isograd.local.module import LocalModule

PENDING = "exchange."


@dataclass(frozen=True)
class Routes:
    """Which local modules average which units, and which stage hosts which module.

    Attributes:
        followers: For each unit that is averaged, the local modules that do.
        stage_of: For each local module, its stage.
    """

    followers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    stage_of: tuple[int, ...] = ()

    def targets(self, stage: int, units: Iterable[str], window: Window) -> list[int]:
        """Returns the earlier stages that ``stage`` sends to, given its units and its first module's window."""
        followers = {target for unit in units for target in self.stages(unit)}
        gradients = {stage - 1} if window.sends or any(window.passes.values()) else set()
        return sorted((followers | gradients) - {stage})

    def stages(self, unit: str) -> list[int]:
        """Returns the stages that need the weights of ``unit``."""
        return sorted({self.stage_of[module] for module in self.followers.get(unit, ())})

    def readers(self, unit: str, stage: int) -> list[int]:
        """Returns the local modules of ``stage`` that need the weights of ``unit``."""
        return [module for module in self.followers.get(unit, ()) if self.stage_of[module] == stage]


class Mailbox:
    """Upward messages that have arrived, until they are taken."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._found: dict[tuple[str, int, int], Upward] = {}
        self.wait_s = 0.0

    def put(self, message: Upward, readers: list[int]) -> None:
        """Puts a message in, for each of its readers."""
        with self._changed:
            for reader in readers:
                self._found[message.key, message.step, reader] = message
            self._changed.notify_all()

    def take(self, key: str, step: int, reader: int) -> Upward:
        """Waits for a message and removes it."""
        address = (key, step, reader)
        before_s = time.perf_counter()
        with self._changed:
            self._changed.wait_for(lambda: address in self._found)
            self.wait_s += time.perf_counter() - before_s
            return self._found.pop(address)

    def wait(self, key: str, step: int, reader: int) -> None:
        """Waits for a message and leaves it there."""
        with self._changed:
            self._changed.wait_for(lambda: (key, step, reader) in self._found)

    def kept(self, key: str, reader: int) -> dict[int, Upward]:
        """Returns what is there under a key, by step."""
        with self._changed:
            return {step: found for (name, step, who), found in self._found.items() if (name, who) == (key, reader)}

    def drop(self, key: str, reader: int) -> None:
        """Throws away what is there under a key."""
        with self._changed:
            self._found = {
                (name, step, who): found
                for (name, step, who), found in self._found.items()
                if (name, who) != (key, reader)
            }

    def keep(self, is_wanted: Callable[[Upward], bool]) -> None:
        """Throws away what is not wanted."""
        with self._changed:
            self._found = {address: found for address, found in self._found.items() if is_wanted(found)}


class UpwardExchange:
    """What a stage does about weights and gradients that go to earlier local modules.

    Args:
        stage: Index of the stage.
        routes: Of the run.
        device: Of the stage's modules.

    Attributes:
        links: The outboxes to earlier stages, by their index; set for each run.
    """

    def __init__(self, stage: int, routes: Routes, device: torch.device) -> None:
        self.links: Mapping[int, Outbox] = {}
        self.mailbox = Mailbox()
        self._stage, self._routes, self._device = stage, routes, device
        self._next: dict[EMA, int] = {}
        self._gradients: dict[int, Tree] = {}
        self._replays = False

    def targets(self, modules: Sequence[LocalModule]) -> list[int]:
        """Returns the earlier stages that this one, with its modules, sends to."""
        if not modules:
            return []
        units = [name for module in modules for name in module.unit_names]
        return self._routes.targets(self._stage, units, modules[0].window)

    def deliver(self, message: Upward) -> None:
        """Takes what a later local module sent, weights for all their readers in this stage."""
        kind, _, name = message.key.partition("/")
        readers = self._routes.readers(name, self._stage) if kind == "weights" else [0]
        self.mailbox.put(message.to(self._device), readers)

    def publish(self, module: LocalModule, step: int) -> None:
        """Sends the weights of a module's units, as they are when ``step`` begins, to all who average them."""
        for name, unit in zip(module.unit_names, module.trunk, strict=True):
            stages = self._routes.stages(name)
            if stages:
                weights = {key: weight.detach().clone() for key, weight in unit.named_parameters()}
                message = Upward(weights_key(name), step, weights)
                for stage in stages:
                    self._send(stage, message)

    def start(self, modules: Sequence[LocalModule], step: int) -> None:
        """Begins a run at ``step``: all that is due by then has been absorbed, and what lags behind is kept."""
        averages = [ema for module in modules for ema in module.followers]
        oldest = {weights_key(ema.source): step - ema.lag for ema in averages}
        self.mailbox.keep(lambda found: oldest.get(found.key, step) <= found.step < step)
        self._next = {ema: max(step - ema.lag, 0) for ema in averages}

    def absorb(self, module: LocalModule, step: int) -> None:
        """Brings a module's averages up to what ``step`` has to find: weights of steps before it, less the lag."""
        for ema in module.followers:
            due = max(step - ema.lag, 0)
            for version in range(self._next[ema], due):
                ema.absorb(self.mailbox.take(weights_key(ema.source), version, module.index).tensors)
            self._next[ema] = due

    def settle(self, module: LocalModule, step: int) -> None:
        """Absorbs all that is due after ``step`` steps, and waits for what lags behind."""
        self.absorb(module, step)
        for ema in module.followers:
            for version in range(self._next[ema], step):
                self.mailbox.wait(weights_key(ema.source), version, module.index)

    def send_gradient(self, origin: int, step: int, gradient: Tree) -> None:
        """Sends a gradient to the stage before."""
        self._send(self._stage - 1, Upward(gradient_key(origin), step, gradient))

    def gradient(self, origin: int, step: int) -> Tree:
        """Waits for a gradient from the next stage."""
        if not self._replays:
            self._gradients[origin] = self.mailbox.take(gradient_key(origin), step, 0).tensors
        return self._gradients[origin]

    def assume(self, gradients: Mapping[int, Tree]) -> None:
        """Sets the gradients, by the module whose cascade loss they are of, that :meth:`replaying` gives out."""
        self._gradients.update(gradients)

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Lets a stage run without the others: it gets the last gradients again, and sends nothing."""
        self._replays = True
        try:
            yield
        finally:
            self._replays = False

    def pending(self, module: LocalModule) -> dict[str, Tensor]:
        """Returns the weights that a module is yet to absorb because it lags, for a checkpoint."""
        found: dict[str, Tensor] = {}
        for ema in module.followers:
            for version, message in self.mailbox.kept(weights_key(ema.source), module.index).items():
                prefix = f"{_prefix(module, ema)}{version}."
                found |= {f"{prefix}{name}": tensor for name, tensor in message.tensors.items()}
        return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in found.items()}

    def pending_names(self, module: LocalModule, state: Mapping[str, Tensor]) -> set[str]:
        """Returns the names in ``state`` that :meth:`load_pending` takes up for a module."""
        prefixes = tuple(_prefix(module, ema) for ema in module.followers)
        return {name for name in state if name.startswith(prefixes)}

    def load_pending(self, module: LocalModule, state: Mapping[str, Tensor]) -> None:
        """Takes up what :meth:`pending` returned, in place of what is there."""
        for ema in module.followers:
            self.mailbox.drop(weights_key(ema.source), module.index)
            versions: dict[int, dict[str, Tensor]] = {}
            for version, name, tensor in _entries(_prefix(module, ema), state):
                versions.setdefault(version, {})[name] = tensor.to(self._device)
            for version, weights in versions.items():
                self.mailbox.put(Upward(weights_key(ema.source), version, weights), [module.index])

    def _send(self, stage: int, message: Upward) -> None:
        if stage == self._stage:
            self.deliver(message)
        elif not self._replays:
            self.links[stage].send(message)


def _prefix(module: LocalModule, ema: EMA) -> str:
    return f"{PENDING}{module.name}.{ema.source}."


def _entries(prefix: str, state: Mapping[str, Tensor]) -> Iterator[tuple[int, str, Tensor]]:
    for key, tensor in state.items():
        version, _, name = key.removeprefix(prefix).partition(".")
        if key.startswith(prefix) and version.isdigit():
            yield int(version), name, tensor
