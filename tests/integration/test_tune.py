"""Sweeps through Ray Tune: real trials, real losses, and the same numbers again."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow.parquet as parquet
import pytest
from optuna.trial import TrialState

from isograd.cli.main import main
from isograd.compare.rerun import rerun
from isograd.errors import ConfigError, PlacementError, RunFolderError, StudyError
from isograd.run.experiment import stored_config
from isograd.run.folder import RunFolder
from isograd.run.stored_record import read_record
from isograd.system.console import wide_console
from isograd.tune.choice import choose
from isograd.tune.request import parse, read_request
from isograd.tune.results import outcome_of, read_records
from isograd.tune.study import Study, open_study
from isograd.tune.sweep import begin, resume
from isograd.tune.table import METADATA, TABLE
from tests.processes import trial_processes, wait_until

SMALL = (
    "model.width=4",
    "train.epochs=3",
    "lr_schedule.warmup_epochs=1",
    "executor.device=cpu",
    "method.auxiliary=linear",
)


def swept(folder: Path, *items: str, space: str = "man") -> Study:
    return begin(parse(space, [f"tune.folder={folder}", "tune.name=mine", *SMALL, *items]), wide_console()).study


@pytest.fixture(scope="module")
def study(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Study:
    items = ("tune.num_trials=5", "tune.seeds=[0,1]", "tune.reduction=2", "tune.max_concurrent=2", "~space.method.base")
    return swept(tmp_path_factory.mktemp("studies"), *items, "train.evaluate_every=2")


def test_a_sweep_tries_what_it_was_asked_for(study: Study) -> None:
    kinds = [outcome.kind for trial in study.trials if (outcome := outcome_of(trial)) is not None]
    assert len(kinds) == 5 and set(kinds) <= {"complete", "pruned"} and "pruned" in kinds
    for trial in study.trials:
        outcome = outcome_of(trial)
        assert outcome is not None
        assert (trial.state == TrialState.COMPLETE) == (outcome.epoch == 3) == (outcome.kind == "complete")
    assert not (study.request.folder / "tune").exists()
    assert not list(study.request.folder.glob("trials/*/seed-*/checkpoints"))


def test_the_searcher_sees_means_over_seeds(study: Study) -> None:
    records = read_records(study.request.folder)
    for trial in study.trials:
        outcome = outcome_of(trial)
        assert outcome is not None
        own = [record for record in records if record["trial"] == trial.number]
        assert {record["seed"] for record in own} == {0, 1}
        assert {record["epoch"] for record in own} == set(range(1, outcome.epoch + 1))
        said = dict(trial.intermediate_values)
        assert (trial.value is not None) == (outcome.kind == "complete") and said.keys() <= {1, 2}
        if trial.value is not None:
            said[outcome.epoch] = trial.value
        assert outcome.epoch in said
        for epoch, value in said.items():
            assert value == fmean(errors(own, epoch).values())


def errors(records: list[dict[str, Any]], epoch: int, split: str = "valid") -> dict[int, float]:
    """Returns the share of wrong samples in the network's own output, by seed."""
    last = max(record["module"] for record in records)
    own = [record for record in records if (record["epoch"], record["split"]) == (epoch, split)]
    found = {record["seed"]: dict(record["values"])["error"] for record in own if record["module"] == last}
    assert found.keys() == {0, 1}
    return found


def test_the_table_has_all_of_it(study: Study) -> None:
    table = parquet.read_table(study.request.folder / TABLE)
    rows = {row["trial"]: row for row in table.to_pylist()}
    metadata = json.loads((table.schema.metadata or {})[METADATA])
    assert metadata["provenance"]["packages"]["torch"] and metadata["objectives"] == ["score"]
    assert metadata["score"] == asdict(study.request.score) and metadata["split"] == "valid"
    for trial in study.trials:
        row, outcome = rows[trial.number], outcome_of(trial)
        assert outcome is not None
        assert row["kind"] == outcome.kind and row["score"] == outcome.metrics["score"]
        assert len({(epoch["seed"], epoch["epoch"]) for epoch in row["epochs"]}) == 2 * outcome.epoch
        assert all(epoch["step"] == 21 * epoch["epoch"] and epoch["num_samples"] > 100 for epoch in row["epochs"])
        assert {epoch["split"] for epoch in row["epochs"]} >= {"train", "valid"} and len(row["runs"]) == 2
        judged = {epoch["epoch"] for epoch in row["epochs"] if epoch["split"] == "valid"}
        by_epoch = [errors(row["epochs"], epoch) for epoch in sorted(judged)]
        assert row["score"] == fmean(by_epoch[-1].values()) and max(judged) == outcome.epoch
        assert row["best_score"] == fmean(min(found[seed] for found in by_epoch) for seed in (0, 1))
        assert (row["test_score"] is not None) == (outcome.kind == "complete")
        if outcome.kind == "complete":
            assert row["test_score"] == fmean(errors(row["epochs"], outcome.epoch, "test").values())
        assert row["partition.ends"] and json.loads(row["config"])["method"]["name"] == "man"


@pytest.mark.parametrize(
    "executor",
    [
        pytest.param(("sequential",), id="sequential"),
        pytest.param(("pipelined", "executor.num_stages=2"), id="pipelined", marks=pytest.mark.long),
    ],
)
def test_a_trial_runs_again_to_the_same_bits(study: Study, tmp_path: Path, executor: tuple[str, ...]) -> None:
    kind = "complete" if executor == ("sequential",) else "pruned"
    number = next(trial.number for trial in study.trials if (found := outcome_of(trial)) and found.kind == kind)
    text = f"{study.request.folder}/{number}"
    assert len(choose(text).scores) >= 2
    choice, *options = executor
    assert rerun(text, [f"folder={tmp_path}", f"executor={choice}", *options], wide_console()) == 0


def test_a_trial_runs_again_under_a_name_and_elsewhere(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number = next(trial.number for trial in study.trials if trial.state == TrialState.PRUNED)
    text, folder = f"{study.request.folder}/{number}", f"folder={tmp_path}"
    assert rerun(text, [folder, "run_name=twice", "executor=sequential"], wide_console()) == 0
    ran = stored_config(RunFolder(tmp_path / "twice-seed1"))
    assert ran.train == study.request.base.train and ran.train.evaluate_every == 2
    assert {path.name for path in tmp_path.iterdir()} == {"twice-seed0", "twice-seed1"}
    (tmp_path / "once-seed1").mkdir()
    with pytest.raises(RunFolderError, match="once-seed1 exists already"):
        rerun(text, [folder, "run_name=once"], wide_console())
    assert not (tmp_path / "once-seed0").exists(), "nothing trains before all folders are free"
    with pytest.raises(ConfigError, match="changes what the trial computes"):
        rerun(text, [folder, "executor.threads=2"], wide_console())
    with pytest.raises(ConfigError, match="changes what the trial computes"):
        rerun(text, [folder, "executor=microbatch"], wide_console())


def test_the_best_is_named_best_and_others_by_their_numbers(study: Study) -> None:
    best = choose(f"{study.request.folder}/best")
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert best.outcome.metrics["score"] == min(trial.value for trial in complete if trial.value is not None)
    assert choose(str(study.request.folder)).number == best.number
    for text, what in ((f"{study.request.folder}/99", "names no trial"), ("nowhere/1", "names no trial of a study")):
        with pytest.raises(StudyError, match=what):
            choose(text)


def test_a_finished_sweep_is_extended_with_other_options(study: Study) -> None:
    folder, before = study.request.folder, {trial.number: outcome_of(trial) for trial in study.trials}
    with pytest.raises(PlacementError):
        resume(folder, 1, wide_console(), ["executor.cpus_per_stage=9"])
    assert read_request(folder).base == study.request.base and open_study(study.request).num_left == 0
    more = resume(folder, 1, wide_console(), ["checkpoint.keep=2"]).study
    after = {trial.number: outcome_of(trial) for trial in more.trials}
    assert len(after) == 6 and all(after[number] == outcome for number, outcome in before.items())
    assert len(parquet.read_table(folder / TABLE)) == 6
    assert read_request(folder).base.checkpoint.keep == 2


@pytest.fixture
def killer(tmp_path: Path) -> Iterator[list[int]]:
    """Kills a trial's process once it has a checkpoint."""
    killed: list[int] = []

    def kill() -> None:
        if wait_until(lambda: any(tmp_path.glob("mine/trials/*/seed-*/checkpoints/step-*"))):
            for process_id in trial_processes():
                os.kill(process_id, signal.SIGKILL)
                killed.append(process_id)

    thread = threading.Thread(target=kill)
    thread.start()
    yield killed
    thread.join()


ONE = ("tune.num_trials=1", "tune.scheduler=none", "train.epochs=12")


@pytest.mark.long
def test_a_lost_trial_goes_on_from_its_checkpoint(
    ray_session: None, tmp_path: Path, killer: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    study = swept(tmp_path, *ONE, space="dgl")
    (trial,) = study.trials
    outcome = outcome_of(trial)
    assert killed_once(killer) and outcome is not None and outcome.kind == "complete" and outcome.epoch == 12
    assert list(tmp_path.glob("mine/trials/0000/seed-0/provenance-*.json")), "it began anew instead of going on"
    assert rerun(f"{tmp_path}/mine/0", [f"folder={tmp_path}", "executor=sequential"], wide_console()) == 0
    assert capsys.readouterr().out.count("trial 0 ") == 1


def killed_once(killed: list[int]) -> bool:
    return wait_until(lambda: len(killed) == 1)


@pytest.mark.long
def test_a_trial_that_is_lost_every_time_is_told_so(ray_session: None, tmp_path: Path, killer: list[int]) -> None:
    study = swept(tmp_path, *ONE, "tune.num_lost_retries=0", space="dgl")
    (trial,) = study.trials
    outcome = outcome_of(trial)
    assert killed_once(killer) and outcome is not None and outcome.kind == "lost"
    assert trial.state == TrialState.FAIL and trial.values is None


def test_a_trial_that_fails_is_told_so_and_counts_no_value(ray_session: None, tmp_path: Path) -> None:
    rates = ("space.optimizer.lr.low=1e19", "space.optimizer.lr.high=1e20", "tune.start_from_defaults=false")
    items = ("tune.num_trials=1", *rates, "lr_schedule.warmup_epochs=0", "tune.scheduler=none", *SMALL)
    assert main(["tune", "dgl", f"tune.folder={tmp_path}", "tune.name=mine", *items]) == 1
    for trial in open_study(read_request(tmp_path / "mine")).trials:
        outcome = outcome_of(trial)
        assert outcome is not None and outcome.kind == "failed" and "loss" in outcome.reason and outcome.epoch == 0
        assert trial.state == TrialState.FAIL and trial.values is None
    assert parquet.read_table(tmp_path / "mine" / TABLE).column("score").null_count == 1


@pytest.mark.long
def test_pipelined_trials_have_a_bundle_a_stage_and_release_them(ray_session: None, tmp_path: Path) -> None:
    from ray.util import placement_group_table

    before = set(placement_group_table())
    items = ("tune.num_trials=1", "executor=pipelined", "executor.num_stages=2", "tune.scheduler=none")
    study = swept(tmp_path, *items, "space.partition.num_modules.high=3", space="dgl")
    outcomes = [outcome_of(trial) for trial in study.trials]
    assert [outcome and outcome.kind for outcome in outcomes] == ["complete"]
    assert all(outcome and len(outcome.runs[0]["devices"]) == 2 for outcome in outcomes)
    groups = [group for name, group in placement_group_table().items() if name not in before]
    assert all(len(group["bundles"]) == 2 and group["state"] == "REMOVED" for group in groups) and groups


DATA = Path(__file__).parents[3] / "shared" / "data"
TASKS = {
    "language": (
        *("experiment=wikitext2_small", f"data.path={DATA / 'wikitext2'}", "data.batch_size=512", "train.epochs=4"),
        *("train.max_steps=30", "lr_schedule.warmup_steps=2", "model.width=16", "model.num_heads=2"),
    ),
    "super_resolution": (
        *("experiment=edsr_small", f"data.path={DATA / 'camvid' / 'train' / 'images'}", "data.crops=1", "data.crop=8"),
        *(f"data.test_path={DATA / 'set5'}", "method=dgl", "model.width=6", "train.epochs=2"),
    ),
}


@pytest.mark.long
@pytest.mark.skipif(not DATA.is_dir(), reason="the data lies in ../shared, which is not here")
@pytest.mark.parametrize("task", TASKS)
def test_other_tasks_are_searched_as_their_presets_train_them(ray_session: None, tmp_path: Path, task: str) -> None:
    items = ("method.auxiliary=auto", "executor.device=cpu", "tune.num_trials=1", "tune.name=mine")
    request = parse("dgl", [*TASKS[task], *items, f"tune.folder={tmp_path}"])
    (trial,) = begin(request, wide_console()).study.trials
    outcome = outcome_of(trial)
    assert outcome is not None and (outcome.kind, outcome.epoch) == ("complete", request.num_epochs)
    record = read_record(request.trial_folder(0) / "seed-0")
    assert record.num_steps == (request.base.train.max_steps or record.num_steps) and record.test is not None
    assert rerun(f"{tmp_path}/mine/0", [f"folder={tmp_path}"], wide_console()) == 0
