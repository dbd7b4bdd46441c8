"""The batches of a source without what is in them, for processes that only need to know what comes when."""

from collections.abc import Iterator

import torch

from isograd.data.batch import Batch, Source, num_batches
from isograd.data.rows import Parted


class Outline(Parted):
    """As many batches as another source has, of the same sizes, without inputs and targets, of rows of no meaning.

    Implements :class:`~isograd.data.batch.Source`.

    Args:
        source: What is outlined, as a whole; it is not kept.
    """

    def __init__(self, source: Source) -> None:
        counts = source.num_train, source.num_valid, source.num_test
        super().__init__(counts, source.batch_size, test_batch_size=source.test_batch_size)

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
            yield Batch({}, {}, torch.empty(self._part.size(size, number), dtype=torch.int64), number)
