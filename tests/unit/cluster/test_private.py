"""What a private cluster needs of the machine."""

import os
from pathlib import Path

import pytest

from isograd.cluster.private import check_folder, own_token
from isograd.errors import MachineError

TOKEN = "RAY_AUTH_TOKEN"


def test_it_has_a_token_of_its_own_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.delenv(TOKEN, raising=False)
    with own_token():
        first = os.environ[TOKEN]
    with own_token():
        assert len(first) == 64 and os.environ[TOKEN] != first
    assert TOKEN not in os.environ


@pytest.mark.parametrize(("name", "value"), [("RAY_AUTH_MODE", "disabled"), ("RAY_AUTH_TOKEN_PATH", "/mine")])
def test_what_the_user_has_chosen_stays(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv(name, value)
    with own_token():
        assert TOKEN not in os.environ


def test_a_folder_that_is_too_long_for_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/tmp/" + "t" * 90)
    with pytest.raises(MachineError, match=r"TMPDIR=/tmp/t+ is 95 bytes long; .* and the system takes 107"):
        check_folder()
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    check_folder()


@pytest.mark.parametrize(("folder", "words"), [("here", "is relative"), ("/tmp/\u00e9", "is not of ASCII")])
def test_a_folder_that_ray_does_not_take(folder: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", folder)
    with pytest.raises(MachineError, match=f"TMPDIR={folder} {words}.*Use RAY_TMPDIR=/tmp"):
        check_folder()


def test_a_folder_in_which_nothing_can_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "file"))
    monkeypatch.setattr("isograd.cluster.private._LONGEST_SOCKET", 1000)
    with pytest.raises(MachineError, match="nothing can be written to"):
        check_folder()
