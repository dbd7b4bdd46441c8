"""What a run does, as the ordered stream of messages that enters the first local module."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch

from isograd.data.batch import Batch, Source, num_batches
from isograd.events.events import Position
from isograd.local.message import Kind, Message


@dataclass(frozen=True)
class Program:
    """Epochs of training and testing, with snapshots between.

    Attributes:
        source: Batches.
        num_epochs: Epochs of the whole run; the program starts at ``start``.
        start: Where to begin, after a checkpoint.
        stop_epoch: The last epoch of this part of the run; 0: the run's last one.
        max_steps: Training steps of the whole run, 0 for no limit.
        snapshot_epochs: A snapshot after so many epochs, and at the end; 0: none.
        snapshot_steps: A snapshot after so many steps as well; 0: none. Each position is saved once, and
            after the test where an epoch ends there.
        carries_pixels: Whether the image goes down with the activation.
        tests: Whether the test split is run after each epoch.
    """

    source: Source
    num_epochs: int
    start: Position = field(default_factory=Position)
    stop_epoch: int = 0
    max_steps: int = 0
    snapshot_epochs: int = 0
    snapshot_steps: int = 0
    carries_pixels: bool = False
    tests: bool = True

    @property
    def steps_per_epoch(self) -> int:
        """Training batches an epoch, a smaller last one included."""
        return num_batches(self.source.num_train, self.source.batch_size)

    @property
    def num_steps(self) -> int:
        """Training steps of the whole run, those before ``start`` included."""
        total = self.num_epochs * self.steps_per_epoch
        return min(total, self.max_steps) if self.max_steps else total

    @property
    def last_epoch(self) -> int:
        """The epoch after which this program ends, by epochs alone."""
        return min(self.stop_epoch, self.num_epochs) if self.stop_epoch else self.num_epochs

    def parts(self) -> Iterator["Program"]:
        """Yields the program in parts of 1, 1, 2, 4, ... epochs: as often as is worth stopping to look."""
        first, position = self.start.epoch, self.start
        end = first
        while position.step < self.num_steps and position.epoch <= self.last_epoch:
            part = replace(self, start=position, stop_epoch=min(end, self.last_epoch))
            yield part
            position = Position(part.last_epoch + 1, 0, part.last_epoch * self.steps_per_epoch)
            end += end - first + 1

    def messages(self, device: torch.device) -> Iterator[Message]:
        """Yields everything, from ``start`` to the end, with batches on ``device``."""
        source = self.source.on(device)
        step = self.start.step
        for epoch in range(self.start.epoch, self.last_epoch + 1):
            if step >= self.num_steps:
                break
            first = self.start.number if epoch == self.start.epoch else 0
            for batch in source.train(epoch, first):
                yield self._message(Kind.TRAIN, epoch, step, batch.to(device))
                step += 1
                if step == self.num_steps:
                    break
                ends_epoch = step % self.steps_per_epoch == 0  # then its snapshot follows the test
                if self.snapshot_steps and step % self.snapshot_steps == 0 and not ends_epoch:
                    yield _marker(Kind.SNAPSHOT, self._position(step))
            yield from self._end_of_epoch(source, epoch, step, device)
        yield Message(Kind.END, self.num_epochs, step=step)

    def evaluation(self, device: torch.device) -> Iterator[Message]:
        """Yields the test split alone."""
        yield from self._test(self.source.on(device), self.start.epoch, self.start.step, device)
        yield Message(Kind.END, self.start.epoch, step=self.start.step)

    def _end_of_epoch(self, source: Source, epoch: int, step: int, device: torch.device) -> Iterator[Message]:
        yield Message(Kind.TRAINED, epoch, step=step)
        if self.tests:
            yield from self._test(source, epoch, step, device)
        if self._snapshot_due(epoch, step):
            yield _marker(Kind.SNAPSHOT, self._position(step))

    def _snapshot_due(self, epoch: int, step: int) -> bool:
        """Whether an epoch's end is a point to save: by either rule, and always at the end of the run."""
        by_epochs = self.snapshot_epochs and epoch % self.snapshot_epochs == 0
        by_steps = self.snapshot_steps and step % self.snapshot_steps == 0
        at_end = step == self.num_steps and (self.snapshot_epochs or self.snapshot_steps)
        return bool(by_epochs or by_steps or at_end)

    def _test(self, source: Source, epoch: int, step: int, device: torch.device) -> Iterator[Message]:
        for batch in source.test():
            yield self._message(Kind.TEST, epoch, step, batch.to(device))
        yield Message(Kind.TESTED, epoch, step=step)

    def _message(self, kind: Kind, epoch: int, step: int, batch: Batch) -> Message:
        pixels = batch.input if self.carries_pixels else None
        return Message(kind, epoch, batch.number, step, batch.input, batch.target, pixels)

    def _position(self, step: int) -> Position:
        epochs_done, number = divmod(step, self.steps_per_epoch)
        return Position(epochs_done + 1, number, step)


def _marker(kind: Kind, position: Position) -> Message:
    return Message(kind, position.epoch, position.number, position.step)
