"""Where a stage puts what other stages shall receive."""

from typing import Protocol

from isograd.local.message import Message, Upward


class Outbox(Protocol):
    """Where a stage puts what the next one shall receive."""

    sent_bytes: int

    def send(self, message: Message | Upward) -> None:
        """Takes a message; waits while the queue is full. The message's tensors must not change afterwards."""
        ...

    def close(self) -> None:
        """Returns once everything has been delivered."""
        ...


class Nowhere:
    """The outbox of the last stage."""

    sent_bytes = 0

    def send(self, message: Message | Upward) -> None:
        """Drops the message."""
        pass

    def close(self) -> None:
        """Does nothing."""
        pass
