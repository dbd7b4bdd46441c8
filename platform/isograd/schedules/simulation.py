"""A discrete-event simulation of a schedule: when each action would begin and end.

Devices take their actions in order; an action begins when its device is free and all it waits for has come. Links carry
one message at a time. Devices that share a host's cores slow each other down.
"""

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from isograd.errors import ContractError
from isograd.local.action import Action, Span
from isograd.schedules.schedule import Need, Schedule
from isograd.schedules.timeline import Timeline


@dataclass(frozen=True)
class Link:
    """What carries messages between two devices.

    Attributes:
        latency_s: Until an empty message has arrived.
        bytes_per_s: Beyond that.
    """

    latency_s: float = 0.0
    bytes_per_s: float = float("inf")

    def transfer_s(self, num_bytes: int) -> float:
        """Returns how long a message keeps the link busy."""
        return num_bytes / self.bytes_per_s


@dataclass(frozen=True)
class Contention:
    """How devices that share a host's cores slow each other down.

    Attributes:
        slowdowns: For each device, how many times longer an action takes while all devices work; empty: no device
            slows another one. In between, it grows with the number of devices at work.
    """

    slowdowns: tuple[float, ...] = ()

    def rate(self, device: int, num_busy: int) -> float:
        """Returns how much of an action is done in a second, of what a device alone does."""
        if len(self.slowdowns) < 2:
            return 1.0
        share = (num_busy - 1) / (len(self.slowdowns) - 1)
        return 1 / (1 + (self.slowdowns[device] - 1) * share)


def simulate(
    schedule: Schedule,
    duration_s: Callable[[Action], float],
    link: Link = Link(),
    contention: Contention = Contention(),
) -> Timeline:
    """Returns what the schedule would look like.

    Args:
        schedule: The devices' actions.
        duration_s: How long an action takes on a device that nothing slows down, in seconds.
        link: Between any two devices.
        contention: Among the devices.

    Raises:
        ContractError: Actions wait for each other in a circle.
    """
    return _Simulation(schedule, duration_s, link, contention).run()


@dataclass
class _Device:
    """A device under simulation: what it does, and how much of that is left."""

    actions: Sequence[Action]
    position: int = 0
    is_busy: bool = False
    started_s: float = 0.0
    left_s: float = 0.0
    rate: float = 1.0
    seen_s: float = 0.0
    version: int = 0
    spans: list[Span] = field(default_factory=list)

    @property
    def head(self) -> Action | None:
        return self.actions[self.position] if self.position < len(self.actions) else None


class _Simulation:
    def __init__(
        self, schedule: Schedule, duration_s: Callable[[Action], float], link: Link, contention: Contention
    ) -> None:
        self._schedule, self._duration_s, self._link, self._contention = schedule, duration_s, link, contention
        self._devices = [_Device(actions) for actions in schedule.devices]
        self._place = {action: index for index, device in enumerate(self._devices) for action in device.actions}
        self._missing = {action: len(needs) for action, needs in schedule.needs.items()}
        self._waiting: dict[tuple[Action, bool], list[tuple[Action, Need]]] = {}
        for action, needs in schedule.needs.items():
            for need in needs:
                self._waiting.setdefault((need.action, need.at_start), []).append((action, need))
        self._events: list[tuple[float, int, int, int, Action | None]] = []
        self._sequence = itertools.count()
        self._free_s: dict[tuple[int, int], float] = {}
        self._num_busy = 0

    def run(self) -> Timeline:
        for index in range(len(self._devices)):
            self._try_start(index, 0.0)
        while self._events:
            now_s, _, index, version, arrived = heapq.heappop(self._events)
            if arrived is not None:
                self._missing[arrived] -= 1
                self._try_start(index, now_s)
            elif self._devices[index].version == version:
                self._finish(index, now_s)
        self._check_done()
        return Timeline(tuple(tuple(device.spans) for device in self._devices))

    def _try_start(self, index: int, now_s: float) -> None:
        device = self._devices[index]
        action = device.head
        if device.is_busy or action is None or self._missing.get(action):
            return
        device.is_busy, device.started_s, device.seen_s = True, now_s, now_s
        device.left_s = self._duration_s(action)
        self._notify(action, True, index, now_s)
        self._recount(index, 1, now_s)

    def _finish(self, index: int, now_s: float) -> None:
        device = self._devices[index]
        action = device.actions[device.position]
        device.spans.append(Span(action, device.started_s, now_s))
        device.position += 1
        device.is_busy = False
        device.version += 1
        self._recount(index, -1, now_s)
        self._notify(action, False, index, now_s)
        self._try_start(index, now_s)

    def _notify(self, action: Action, at_start: bool, index: int, now_s: float) -> None:
        for waiting, need in self._waiting.get((action, at_start), ()):
            target = self._place[waiting]
            self._push(self._arrival_s(index, target, need, now_s), target, 0, waiting)

    def _arrival_s(self, source: int, target: int, need: Need, now_s: float) -> float:
        if source == target or not need.num_bytes:
            return now_s
        begin_s = max(now_s, self._free_s.get((source, target), 0.0))
        self._free_s[source, target] = begin_s + self._link.transfer_s(need.num_bytes)
        return self._free_s[source, target] + self._link.latency_s

    def _recount(self, index: int, change: int, now_s: float) -> None:
        """Brings rates up to date after a device became busy or idle."""
        self._num_busy += change
        touched = range(len(self._devices)) if self._contention.slowdowns else (index,)
        for other in touched:
            device = self._devices[other]
            if device.is_busy:
                device.left_s -= (now_s - device.seen_s) * device.rate
                device.seen_s, device.rate = now_s, self._contention.rate(other, self._num_busy)
                device.version += 1
                self._push(now_s + max(device.left_s, 0.0) / device.rate, other, device.version, None)

    def _push(self, at_s: float, index: int, version: int, arrived: Action | None) -> None:
        heapq.heappush(self._events, (at_s, next(self._sequence), index, version, arrived))

    def _check_done(self) -> None:
        stuck = [str(device.head) for device in self._devices if device.head is not None]
        if stuck:
            raise ContractError(
                f"schedule '{self._schedule.name}' stands still before: {'; '.join(stuck[:4])}",
                "These actions wait for each other",
                "Report this: it is a mistake in what made the schedule.",
            )
