"""Which runs belong together, and what they are called."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from isograd.compare.comparison import summarise
from isograd.errors import ConfigError, RunFolderError
from isograd.run.folder import RunFolder
from isograd.studies.records import Record, group_by_config, list_differences, read_record
from tests.unit.studies.records import config, entry, record, result


def test_runs_that_differ_in_seed_and_place_only_are_one_entry() -> None:
    first, second = config(seed=0), replace(config("checkpoint.keep=5", seed=1), folder="elsewhere", run_name="x")
    groups = group_by_config([record(first), record(config("method=e2e")), record(second)])
    assert {label: [run.seed for run in runs] for label, runs in groups.items()} == {"dgl": [0, 1], "e2e": [0]}


def test_a_method_that_occurs_twice_is_called_by_what_differs() -> None:
    runs = [
        record(config("partition.num_modules=2")),
        record(config("method=e2e", "optimizer.lr=0.3")),
        record(config("method.auxiliary=cnn")),
    ]
    assert list(group_by_config(runs)) == [
        "dgl method.auxiliary=auto partition.num_modules=2",
        "e2e",
        "dgl method.auxiliary=cnn partition.num_modules=null",
    ]
    assert list_differences([run.config for run in (runs[0], runs[2])]) == ["method.auxiliary", "partition.num_modules"]


def test_a_seed_counts_once() -> None:
    with pytest.raises(ConfigError, match="both seed 3"):
        group_by_config([record(config(seed=3)), record(config(seed=3))])


@pytest.mark.parametrize("content", ["{}", "[1", "- a: b\n- c", "a: [", "method: {}"])
def test_a_damaged_folder_is_explained(tmp_path: Path, content: str) -> None:
    for name in ("config.yaml", "result.json"):
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match="is no configuration: it"):
        read_record(tmp_path)


def written(folder: Path, **changed: Any) -> Path:
    RunFolder(folder).write_config(config())
    RunFolder(folder).write_json("result.json", result() | changed)
    return folder


def read_without(folder: Path, *names: str) -> Record:
    tree = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({name: tree[name] for name in tree if name not in names}))
    return read_record(folder)


def test_a_run_took_what_all_its_legs_took(tmp_path: Path) -> None:
    found = read_record(written(tmp_path))
    assert (found.images_per_s, found.device_s, found.peak_bytes) == (40.0, 8.0, 2**21)


def test_what_a_result_of_an_earlier_version_says_of_its_last_leg_is_not_said_of_the_run(tmp_path: Path) -> None:
    found = read_without(written(tmp_path), "spent", "peak_bytes")
    assert (found.images_per_s, found.device_s, found.peak_bytes) == (None, None, None)
    summary = summarise(entry("dgl", found), entry("dgl", found))
    assert (summary.images_per_s, summary.device_s, summary.peak_bytes) == (None, None, None)
    whole = read_without(written(tmp_path, num_steps=10), "spent", "peak_bytes")
    assert (whole.images_per_s, whole.device_s, whole.peak_bytes) == (40.0, 8.0, 2**20)


DAMAGED = {
    "test_error": ("x", 'test_error is "x", which is not a finite number or null'),
    "best_test_error": (float("nan"), "best_test_error is NaN"),
    "images_per_s": (float("inf"), "images_per_s is Infinity"),
    "device_s": ([1.0], r"device_s is \[1.0\]"),
    "num_epochs": (True, "num_epochs is true, which is not a whole number"),
    "hardware": (3, "hardware is 3, which is not a text"),
    "history": ([{"epoch": 1, "module_test_errors": ["x"]}], r'history\[0\].module_test_errors\[0\] is "x"'),
    "stages": ([{"device": "cpu"}], r"stages\[0\] has no num_steps"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_field_that_is_none_of_its_type_is_named(tmp_path: Path, name: str) -> None:
    value, said = DAMAGED[name]
    with pytest.raises(RunFolderError, match=rf"result\.json is no result of a run: {said}") as caught:
        read_record(written(tmp_path, **{name: value}))
    assert caught.value.mend.startswith(f"Delete {tmp_path}"), "there is no checkpoint to write it again from"


def test_a_run_without_a_test_has_no_test_error(tmp_path: Path) -> None:
    found = read_record(written(tmp_path, test_error=None, best_test_error=None, history=[], module_test_errors=[]))
    assert found.test_error is None and found.test_errors == {}
