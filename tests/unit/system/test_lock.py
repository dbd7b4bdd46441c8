"""One process at a time in a folder."""

import fcntl
from pathlib import Path
from typing import TextIO

import pytest

from isograd.errors import RunFolderError
from isograd.system.lock import held


def test_a_folder_is_one_process_s_until_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with held(folder), pytest.raises(RunFolderError, match="by another process now"), held(folder):
        pass
    with held(folder):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_that_its_holder_removes_meanwhile_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".run.lock").touch()
    removed = []

    def flock(file: TextIO, operation: int) -> None:
        if not removed:
            (tmp_path / ".run.lock").unlink()  # as its holder does, between our opening and our locking
            removed.append(True)
        real(file, operation)

    real = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", flock)
    with held(tmp_path / "run", patience_s=10), pytest.raises(RunFolderError), held(tmp_path / "run"):
        pass
    assert removed
