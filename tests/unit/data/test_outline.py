"""An outline says what comes when, and nothing of what is in it."""

import pytest

from isograd.data.batch import Source
from isograd.data.outline import Outline
from tests import enlarging
from tests.unit.data.sources import source


@pytest.mark.parametrize("whole", [source(), source(num_train=17), enlarging.source(enlarging.config())])
@pytest.mark.parametrize(("rank", "world"), [(0, 1), (1, 3)])
def test_an_outline_has_the_same_batches_without_samples(whole: Source, rank: int, world: int) -> None:
    outline = Outline(whole).shard(rank, world)
    whole = whole.shard(rank, world)
    for batches, outlines in (
        (whole.train(2, 3), outline.train(2, 3)),
        (whole.valid(), outline.valid()),
        (whole.test(), outline.test()),
    ):
        empty = list(outlines)
        assert [(batch.number, batch.size) for batch in batches] == [(batch.number, batch.size) for batch in empty]
        assert not any(batch.inputs or batch.targets for batch in empty)
