"""Measurements are kept, can be forgotten, and say when the machine was not quiet."""

import subprocess
import sys
from pathlib import Path

import pytest

from isograd.planning import cache
from isograd.planning.cache import busy_cores, forget, kept


def test_a_measurement_is_made_once_until_it_is_forgotten(tmp_path: Path) -> None:
    made = []
    for _ in range(2):
        assert kept("link", {"device": "cpu"}, lambda: made.append(1) or {"latency_s": 1.0}, tmp_path)["latency_s"] == 1
    assert len(made) == 1
    kept("link", {"device": "cuda"}, lambda: made.append(1) or {}, tmp_path)
    assert len(made) == 2
    forget(tmp_path)
    assert list(tmp_path.iterdir()) == []
    kept("link", {"device": "cpu"}, lambda: made.append(1) or {}, tmp_path)
    assert len(made) == 3


def test_others_that_compute_are_noticed() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        found = max(busy_cores() for _ in range(5))
        busy.kill()
    assert found > 0.5


def test_a_measurement_beside_others_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(cache._LOG, "warning", lambda text, *values: said.append(text % values))
    monkeypatch.setattr(cache, "busy_cores", lambda: 0.2)
    kept("link", {}, lambda: [], tmp_path)
    assert not said
    monkeypatch.setattr(cache, "busy_cores", lambda: 1.3)
    kept("contention", {}, lambda: [], tmp_path)
    assert "keep 1.3 of" in said[0] and "--fresh" in said[0]
