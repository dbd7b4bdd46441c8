"""The batches of a source without what is in them, for processes that only need to know what comes when."""

from collections.abc import Iterator

import torch

from isograd.data.batch import Batch, Source, num_batches


class Outline:
    """As many batches as another source has, of the same sizes, with empty images and targets of no meaning.

    Implements :class:`~isograd.data.batch.Source`.

    Args:
        source: What is outlined; it is not kept.
    """

    held_bytes = 0

    def __init__(self, source: Source) -> None:
        self.num_train, self.num_valid, self.num_test = source.num_train, source.num_valid, source.num_test
        self.batch_size = source.batch_size

    def on(self, device: torch.device) -> "Outline":
        """Returns itself: there is nothing to move."""
        return self

    def train(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yields the outlines of an epoch's batches, from number ``first`` on."""
        yield from self._batches(self.num_train, first)

    def valid(self) -> Iterator[Batch]:
        """Yields the outlines of the validation split."""
        yield from self._batches(self.num_valid, 0)

    def shard(self, rank: int, world: int) -> "Outline":
        """Returns itself: what is in a batch is not known."""
        return self

    def test(self) -> Iterator[Batch]:
        """Yields the outlines of the test split."""
        yield from self._batches(self.num_test, 0)

    def _batches(self, num_images: int, first: int) -> Iterator[Batch]:
        for number in range(first, num_batches(num_images, self.batch_size)):
            size = min(self.batch_size, num_images - number * self.batch_size)
            rows = torch.empty(size, dtype=torch.int64)
            yield Batch({}, {}, rows, number)
