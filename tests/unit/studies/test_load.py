"""Which runs belong together, and what they are called."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from isograd.errors import ConfigError, RunFolderError
from isograd.run.folder import RunFolder
from isograd.studies.records import group_by_config, list_differences, read_run
from tests.unit.studies.records import config, finished, run_record


def test_runs_that_differ_in_seed_and_place_only_are_one_entry() -> None:
    first, second = config(seed=0), replace(config("checkpoint.keep=5", seed=1), folder="elsewhere", run_name="x")
    groups = group_by_config([finished(first), finished(config("method=e2e")), finished(second)])
    assert {label: [run.seed for run in runs] for label, runs in groups.items()} == {"dgl": [0, 1], "e2e": [0]}


def test_a_method_that_occurs_twice_is_called_by_what_differs() -> None:
    runs = [
        finished(config("partition.num_modules=2")),
        finished(config("method=e2e", "optimizer.lr=0.3")),
        finished(config("method.auxiliary=cnn")),
    ]
    assert list(group_by_config(runs)) == [
        "dgl method.auxiliary=auto partition.num_modules=2",
        "e2e",
        "dgl method.auxiliary=cnn partition.num_modules=null",
    ]
    assert list_differences([run.config for run in (runs[0], runs[2])]) == ["method.auxiliary", "partition.num_modules"]


def test_a_run_is_not_called_by_an_option_that_it_does_not_have() -> None:
    runs = [finished(config("optimizer=adam")), finished(config("optimizer=sgd"))]
    adam, sgd = group_by_config(runs)
    assert "optimizer.momentum" in sgd and "optimizer.momentum" not in adam


def test_a_seed_counts_once() -> None:
    with pytest.raises(ConfigError, match="both seed 3"):
        group_by_config([finished(config(seed=3)), finished(config(seed=3))])


@pytest.mark.parametrize("content", ["{}", "[1", "- a: b\n- c", "a: [", "method: {}"])
def test_a_damaged_folder_is_explained(tmp_path: Path, content: str) -> None:
    for name in ("config.yaml", "result.json"):
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match="is no configuration: it"):
        read_run(tmp_path)


def written(folder: Path, **changed: Any) -> Path:
    RunFolder(folder).write_config(config())
    RunFolder(folder).write_json("result.json", run_record().to_json() | changed)
    return folder


def test_a_run_is_its_configuration_and_its_record(tmp_path: Path) -> None:
    run = read_run(written(tmp_path))
    assert (run.record, run.config, run.seed, run.devices, run.data) == (run_record(), config(), 0, ["cpu"], None)
    assert (run.record.final, run.record.best, run.record.test, run.record.num_epochs) == (0.25, 0.25, 0.25, 2)


def test_a_result_of_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="has format 1"):
        read_run(written(tmp_path, format=1))


DAMAGED = {
    "samples_per_s": (float("inf"), "samples_per_s is Infinity"),
    "device_s": ([1.0], r"device_s is \[1.0\]"),
    "num_steps": (True, "num_steps is true, which is not a whole number"),
    "hardware": (3, "hardware is 3, which is not a text"),
    "epochs": ([{"epoch": "x"}], r"epochs\[0\].epoch is \"x\""),
    "stages": ([{"device": "cpu"}], r"stages\[0\] has no num_steps"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_field_that_is_none_of_its_type_is_named(tmp_path: Path, name: str) -> None:
    value, said = DAMAGED[name]
    with pytest.raises(RunFolderError, match=rf"result\.json is no result of a run: {said}") as caught:
        read_run(written(tmp_path, **{name: value}))
    assert caught.value.mend.startswith(f"Delete {tmp_path}"), "there is no checkpoint to write it again from"


def test_a_run_without_an_evaluated_epoch_has_no_score(tmp_path: Path) -> None:
    run = read_run(written(tmp_path, epochs=[]))
    assert run.record.final is None and run.record.by_epoch() == {}
