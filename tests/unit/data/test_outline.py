"""An outline says what comes when, and nothing of what is in it."""

from dataclasses import replace

import pytest
import torch

from isograd.data.batch import Source
from isograd.data.outline import Outline
from isograd.engine.program import Program
from isograd.events.events import Position
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


@pytest.mark.parametrize("num_valid", [0, 13])
def test_a_program_of_an_outline_has_the_same_messages_without_tensors(num_valid: int) -> None:
    whole = source(num_valid=num_valid)
    program = Program(whole, num_epochs=4, start=Position(1, 3, 3), snapshot_epochs=1, evaluate_epochs=2)
    messages = list(program.messages(torch.device("cpu")))
    outlined = list(replace(program, source=Outline(whole)).messages(torch.device("cpu")))
    heads = [
        [(item.kind, item.epoch, item.number, item.step, item.split, item.size) for item in some]
        for some in (messages, outlined)
    ]
    assert heads[0] == heads[1] and any(item.tensors for item in messages)
    assert not any(item.tensors for item in outlined)
