"""An outline says what comes when, and nothing of what is in it."""

from dataclasses import replace

import torch

from isograd.data.outline import Outline
from isograd.engine.program import Program
from isograd.events.events import Position
from tests.runs import source


def test_an_outlined_program_has_the_same_messages_without_images() -> None:
    program = Program(source(), num_epochs=2, start=Position(1, 3, 3), snapshot_epochs=1)
    outline = replace(program, source=Outline(program.source))
    found = []
    for messages in (program.messages(torch.device("cpu")), outline.messages(torch.device("cpu"))):
        found.append([(item.kind, item.epoch, item.number, item.step, item.split, item.size) for item in messages])
    assert found[0] == found[1]
    assert not any(item.tensors for item in outline.messages(torch.device("cpu")))
