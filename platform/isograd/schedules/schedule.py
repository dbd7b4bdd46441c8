"""A schedule: what every device does, in which order, and what each action has to wait for. Immutable data.

`isograd plan` simulates one before a run; the run's own recording is compared with it afterwards, action by action.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isograd.errors import ContractError
from isograd.local.action import Action, Work


@dataclass(frozen=True)
class Need:
    """What an action waits for.

    Attributes:
        action: The other action, on any device.
        at_start: Whether it has to have begun; else it has to be done.
        num_bytes: What travels from it, where that is on another device.
    """

    action: Action
    at_start: bool = False
    num_bytes: int = 0


@dataclass(frozen=True)
class Schedule:
    """The actions of all devices.

    Attributes:
        name: For tables.
        devices: For each device its actions, in the order in which it takes them.
        needs: For each action what it waits for beside its device.
        num_batches: How many batches it covers.
    """

    name: str
    devices: tuple[tuple[Action, ...], ...]
    needs: Mapping[Action, tuple[Need, ...]]
    num_batches: int

    def check(self) -> None:
        """Raises ContractError where an action appears twice, or waits for one that no device takes."""
        seen: set[Action] = set()
        for actions in self.devices:
            for action in actions:
                if action in seen:
                    raise _broken(self.name, f"{action} is scheduled twice", "Every action is done once")
                seen.add(action)
        for action, needs in self.needs.items():
            for need in needs:
                if need.action not in seen:
                    raise _broken(self.name, f"{action} waits for {need.action}", "No device does that")

    def of_batch(self, step: int) -> list[list[Action]]:
        """Returns, for each device, its actions on one batch."""
        return [[action for action in actions if action.step == step] for actions in self.devices]

    def __str__(self) -> str:
        return "\n".join(
            f"{index}: {' '.join(short(action) for action in actions)}" for index, actions in enumerate(self.devices)
        )


def short(action: Action) -> str:
    """Returns an action in a few letters: ``F3.0`` is the forward pass of module 3 on batch 0."""
    letters = "".join(word[0] for word in action.work.split())
    part = f"/{action.part}" if action.part else ""
    return f"{letters.upper()}{action.module}.{action.step}{part}"


class Writer:
    """Collects a schedule's actions, device by device."""

    def __init__(self, num_devices: int) -> None:
        self._devices: list[list[Action]] = [[] for _ in range(num_devices)]
        self._needs: dict[Action, tuple[Need, ...]] = {}

    def add(self, device: int, action: Action, needs: Sequence[Need] = ()) -> None:
        """Appends an action to a device."""
        self._devices[device].append(action)
        if needs:
            self._needs[action] = tuple(needs)

    def schedule(self, name: str, num_batches: int) -> Schedule:
        """Returns what has been collected."""
        return Schedule(name, tuple(tuple(actions) for actions in self._devices), self._needs, num_batches)


def input_of(step: int) -> Action:
    """Returns the action by which the first device makes a batch."""
    return Action(Work.INPUT, 0, step)


def _broken(name: str, what: str, why: str) -> ContractError:
    return ContractError(f"schedule '{name}': {what}", why, "Report this: it is a mistake in what made the schedule.")
