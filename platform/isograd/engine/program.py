"""What a run does, as the ordered stream of messages that enters the first local module."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch

from isograd.data.batch import Batch, Source, Split, num_batches
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
        carries_inputs: Whether the inputs as they are stored go down with the live values.
        evaluates: Whether anything but the training split is run.
        evaluate_epochs: The validation split is run after so many epochs, and after the last one. Where there is none,
            the test split takes its place.
        pauses: Whether the run goes on later from where it ends, at ``max_steps``: the test split is left to its end.
    """

    source: Source
    num_epochs: int
    start: Position = field(default_factory=Position)
    stop_epoch: int = 0
    max_steps: int = 0
    snapshot_epochs: int = 0
    snapshot_steps: int = 0
    carries_inputs: bool = False
    evaluates: bool = True
    evaluate_epochs: int = 1
    pauses: bool = False

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
    def end_epoch(self) -> int:
        """The epoch in which the run takes its last step: before ``num_epochs`` where ``max_steps`` ends it."""
        return num_batches(self.num_steps, self.steps_per_epoch)

    @property
    def judging_split(self) -> Split:
        """The split by whose score the run is judged: ``test`` only where there is no validation split."""
        return "valid" if self.source.num_valid else "test"

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
        yield from self._evaluate(self.source.on(device), "test", self.start.epoch, self.start.step, device)
        yield Message(Kind.END, self.start.epoch, step=self.start.step)

    def splits_after(self, epoch: int, step: int) -> list[Split]:
        """Returns which splits are run after ``epoch``, with ``step`` steps taken by then.

        What a run is chosen by is the validation split, epoch by epoch; the test split is run once, at the end.
        """
        if not self.evaluates:
            return []
        at_end = step == self.num_steps or epoch == self.num_epochs
        is_due = at_end or epoch % self.evaluate_epochs == 0
        if not self.source.num_valid:
            return ["test"] if is_due else []
        return [*(["valid"] if is_due else []), *(["test"] if at_end and not self.pauses else [])]

    def _end_of_epoch(self, source: Source, epoch: int, step: int, device: torch.device) -> Iterator[Message]:
        yield Message(Kind.EPOCH, epoch, step=step)
        for split in self.splits_after(epoch, step):
            yield from self._evaluate(source, split, epoch, step, device)
        if self._snapshot_due(epoch, step):
            yield _marker(Kind.SNAPSHOT, self._position(step))

    def _snapshot_due(self, epoch: int, step: int) -> bool:
        """Whether an epoch's end is a point to save: by either rule, and always at the end of the run."""
        by_epochs = self.snapshot_epochs and epoch % self.snapshot_epochs == 0
        by_steps = self.snapshot_steps and step % self.snapshot_steps == 0
        at_end = step == self.num_steps and (self.snapshot_epochs or self.snapshot_steps)
        return bool(by_epochs or by_steps or at_end)

    def _evaluate(self, source: Source, split: Split, epoch: int, step: int, device: torch.device) -> Iterator[Message]:
        for batch in source.valid() if split == "valid" else source.test():
            yield self._message(Kind.EVALUATE, epoch, step, batch.to(device), split)
        yield Message(Kind.EVALUATED, epoch, step=step, split=split)

    def _message(self, kind: Kind, epoch: int, step: int, batch: Batch, split: Split = "train") -> Message:
        return Message.of_batch(kind, batch, epoch=epoch, step=step, split=split, carries_inputs=self.carries_inputs)

    def _position(self, step: int) -> Position:
        epochs_done, number = divmod(step, self.steps_per_epoch)
        return Position(epochs_done + 1, number, step)


def _marker(kind: Kind, position: Position) -> Message:
    return Message(kind, position.epoch, position.number, position.step)
