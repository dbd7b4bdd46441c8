"""Checkpoints on their own: which to delete where some are damaged."""

from pathlib import Path

import pytest
import torch

from isograd.data.identity import Identity
from isograd.errors import CheckpointError
from isograd.events.events import Position
from isograd.run import checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The checkpoints of a run, at steps 1, 2 and 3."""
    for step in (1, 2, 3):
        made = checkpoint.Checkpoint(Position(0, step, step), "f", {"a": torch.ones(9)}, Identity("d", 8, 2, 80), ())
        checkpoint.write(tmp_path / "checkpoints", made)
    return tmp_path / "checkpoints"


def damage(path: Path) -> None:
    tensors = path / "state.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-4] + bytes(4))


@pytest.mark.parametrize(
    ("damaged", "mend"),
    [
        ((2,), r"Delete step-00000003 in .*; the run goes on from step-00000002 then"),
        ((1, 2), r"Delete step-00000003 and step-00000002 in .*; the run goes on from step-00000001 then"),
        ((0, 1, 2), r"make the run again: no checkpoint of it is whole"),
    ],
)
def test_of_damaged_checkpoints_all_are_named_that_are_in_the_way(
    folder: Path, damaged: tuple[int, ...], mend: str
) -> None:
    there = checkpoint.saved(folder)
    for index in damaged:
        damage(there[index])
    with pytest.raises(CheckpointError, match=mend):
        checkpoint.read(checkpoint.newest(folder), "f")
