"""Paths as users write them."""

import os
from pathlib import Path

import pytest

from isograd.data.shards import find_shards
from isograd.errors import ConfigError
from isograd.run.folder import absolute
from isograd.system.paths import user_path


def test_the_home_of_a_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/runs") == tmp_path / "runs" and user_path("a~b/~c") == Path("a~b/~c")
    assert user_path("~root/x") == Path(os.path.expanduser("~root/x"))


@pytest.mark.parametrize("path_of", [user_path, absolute, lambda text: find_shards(Path(text), "train")])
@pytest.mark.parametrize("text", ["~nobody-here", "~nobody-here/runs"])
def test_a_user_who_does_not_exist_has_no_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path_of: object, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / text).mkdir(parents=True)
    with pytest.raises(ConfigError, match=rf"{text} lies in the home of nobody-here, a user .*{tmp_path / text}\."):
        path_of(text)  # pyright: ignore[reportCallIssue]
    assert user_path(tmp_path / text) == tmp_path / text
