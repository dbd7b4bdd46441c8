"""Which runs belong together, and what they are called."""

from dataclasses import replace
from pathlib import Path

import pytest

from isograd.analysis.load import differing, grouped, read
from isograd.errors import ConfigError, RunFolderError
from tests.unit.analysis.records import config, record


def test_runs_that_differ_in_seed_and_place_only_are_one_entry() -> None:
    first, second = config(seed=0), replace(config("checkpoint.keep=5", seed=1), folder="elsewhere", run_name="x")
    groups = grouped([record(first), record(config("method=e2e")), record(second)])
    assert {label: [run.seed for run in runs] for label, runs in groups.items()} == {"dgl": [0, 1], "e2e": [0]}


def test_a_method_that_occurs_twice_is_called_by_what_differs() -> None:
    runs = [
        record(config("partition.num_modules=2")),
        record(config("method=e2e", "optimizer.lr=0.3")),
        record(config("method.auxiliary=cnn")),
    ]
    assert list(grouped(runs)) == [
        "dgl method.auxiliary=auto partition.num_modules=2",
        "e2e",
        "dgl method.auxiliary=cnn partition.num_modules=null",
    ]
    assert differing([run.config for run in (runs[0], runs[2])]) == ["method.auxiliary", "partition.num_modules"]


def test_a_seed_counts_once() -> None:
    with pytest.raises(ConfigError, match="both seed 3"):
        grouped([record(config(seed=3)), record(config(seed=3))])


@pytest.mark.parametrize("content", ["{}", "[1", "- a: b\n- c", "a: [", "method: {}"])
def test_a_damaged_folder_is_explained(tmp_path: Path, content: str) -> None:
    for name in ("config.yaml", "result.json"):
        (tmp_path / name).write_text(content)
    with pytest.raises(RunFolderError, match="cannot be read as a run"):
        read(tmp_path)
