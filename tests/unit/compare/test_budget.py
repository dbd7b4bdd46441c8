"""Equal device seconds: what an entry can afford."""

import json
from pathlib import Path

import pytest

from isograd.compare import budget
from isograd.compare.arguments import parse
from isograd.compare.budget import Speed, assign_epochs, count_affordable
from isograd.compare.comparison import AuxiliaryParameters
from isograd.compare.planning import Planned
from isograd.engine.config import RunConfig
from isograd.errors import NonFiniteLossError
from tests.unit.studies.records import config

SPEEDS = {"e2e": Speed(100.0, 1000, 1), "dgl": Speed(300.0, 1000, 2), "infopro": Speed(1.0, 1000, 1)}


def planned(label: str) -> Planned:
    configs = {seed: config(f"method={label}", "train.epochs=4", seed=seed) for seed in (0, 1)}
    return Planned(label, configs, 4, AuxiliaryParameters(0, 0))


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Takes the place of the calibration runs; returns which were made."""
    made: list[str] = []

    def run_apart(work: object, of: RunConfig) -> Speed:
        made.append(of.method.name)
        if of.method.name not in SPEEDS:
            raise NonFiniteLossError("the loss is nan", "why", "Use less.")
        return SPEEDS[of.method.name]

    monkeypatch.setattr(budget, "run_apart", run_apart)
    return made


def test_whole_epochs_that_fit_and_at_least_one() -> None:
    assert [count_affordable(10.0, epoch_s) for epoch_s in (3.0, 5.0, 11.0)] == [3, 2, 1]
    assert count_affordable(0.3, 0.1) == 3  # 2.9999999999999996 in floating point


def test_every_entry_gets_what_the_baseline_takes(tmp_path: Path, timed: list[str]) -> None:
    request = parse(["e2e", "dgl", "infopro"], output=tmp_path, rule="device-seconds")
    found = assign_epochs([planned(label) for label in SPEEDS], request)  # 4 epochs of 10 s
    epochs = {entry.label: [each.train.epochs for each in entry.configs.values()] for entry in found.entries}
    assert epochs == {"e2e": [4, 4], "dgl": [6, 6], "infopro": [1, 1]}  # dgl: 40 / (1000 / 300 * 2)
    assert "40.0 s" in found.rule and "what e2e takes for 4 epochs" in found.rule
    assert found.entries[2].remarks == ("a single epoch takes 1,000.0 device seconds, more than the budget",)
    assert timed == ["e2e", "dgl", "infopro"]


def test_an_interrupted_comparison_keeps_its_calibration(tmp_path: Path, timed: list[str]) -> None:
    request = parse(["e2e", "dgl"], output=tmp_path, rule="device-seconds", device_s=25.0)
    for _ in range(2):
        found = assign_epochs([planned("e2e"), planned("dgl")], request)
        assert [entry.config.train.epochs for entry in found.entries] == [2, 3]
    assert timed == ["e2e", "dgl"]
    assert json.loads((tmp_path / "calibration.json").read_text())["dgl"]["speed"]["samples_per_s"] == 300.0


def test_what_cannot_be_timed_is_a_failure_unless_it_is_the_measure(
    tmp_path: Path, timed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(SPEEDS, "dgl")
    entries = [planned("e2e"), planned("dgl")]
    request = parse(["e2e", "dgl"], output=tmp_path, rule="device-seconds")
    assert assign_epochs(entries, request).failures == {"dgl": "the loss is nan"}
    measure = parse(["e2e", "dgl"], output=tmp_path, rule="device-seconds", baseline="dgl")
    with pytest.raises(NonFiniteLossError, match="entry 'dgl': the loss is nan"):
        assign_epochs(entries, measure)
