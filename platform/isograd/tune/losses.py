"""Trials whose process or node was lost: whether they are tried again, and when.

A loss counts once an event. The death of a node is one, however many of a trial's processes end with it or cannot start
on it: for some seconds Ray takes a node that has just died for alive, and goes on to use it.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Loss:
    """What became of a trial's process.

    Attributes:
        reason: How it ended.
        lost_node: Identifier of the node that was lost with it; empty where only the process ended. A node that comes
            back has another one.
    """

    reason: str
    lost_node: str = ""


class Losses:
    """Counts the losses of each trial.

    Args:
        num_retries: After how many losses a trial is still tried again.
        is_settled: Whether a node that was lost is known to be dead by now, or answers again.
    """

    def __init__(self, num_retries: int, is_settled: Callable[[str], bool]) -> None:
        self._num_retries, self._is_settled = num_retries, is_settled
        self._counts: dict[int, int] = {}
        self._counted: set[tuple[int, str]] = set()  # (trial, node)
        self._unsettled: set[str] = set()

    def take(self, trial: int, loss: Loss) -> bool:
        """Takes a loss. Returns whether the trial is to be tried again."""
        if loss.lost_node:
            self._unsettled.add(loss.lost_node)
            if (trial, loss.lost_node) in self._counted:
                return True
            self._counted.add((trial, loss.lost_node))
        self._counts[trial] = self.count(trial) + 1
        return self.count(trial) <= self._num_retries

    def count(self, trial: int) -> int:
        """Returns how often a trial was lost."""
        return self._counts.get(trial, 0)

    @property
    def may_start(self) -> bool:
        """Whether a trial may start: not while it might be put on a node that is dead, and not yet known to be."""
        self._unsettled = {node for node in self._unsettled if not self._is_settled(node)}
        return not self._unsettled
