"""The batches of a source without what is in them, for processes that only need to know what comes when."""

import copy
from collections.abc import Iterator

import torch

from isograd.data.batch import Batch, Source, num_batches
from isograd.data.rows import WHOLE, Part


class Outline:
    """As many batches as another source has, of the same sizes, without inputs and targets, of rows of no meaning.

    Implements :class:`~isograd.data.batch.Source`.

    Args:
        source: What is outlined, as a whole; it is not kept.
    """

    held_bytes = 0

    def __init__(self, source: Source) -> None:
        self.num_train, self.num_valid, self.num_test = source.num_train, source.num_valid, source.num_test
        self.batch_size = source.batch_size
        self.test_batch_size: int = getattr(source, "test_batch_size", source.batch_size)
        self._part = WHOLE

    def on(self, device: torch.device) -> "Outline":
        """Returns itself: there is nothing to move."""
        return self

    def shard(self, rank: int, world: int) -> "Outline":
        """Returns the outline of worker ``rank``'s part of every batch."""
        shard = copy.copy(self)
        shard._part = Part(rank, world)
        return shard

    def train(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yields the outlines of an epoch's batches, from number ``first`` on."""
        return self._batches(self.num_train, self.batch_size, first)

    def valid(self) -> Iterator[Batch]:
        """Yields the outlines of the validation split."""
        return self._batches(self.num_valid, self.test_batch_size)

    def test(self) -> Iterator[Batch]:
        """Yields the outlines of the test split."""
        return self._batches(self.num_test, self.test_batch_size)

    def _batches(self, num_samples: int, batch_size: int, first: int = 0) -> Iterator[Batch]:
        for number in range(first, num_batches(num_samples, batch_size)):
            size = min(batch_size, num_samples - number * batch_size)
            yield Batch({}, {}, torch.empty(self._part.size(size), dtype=torch.int64), number)
