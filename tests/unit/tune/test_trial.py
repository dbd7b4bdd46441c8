"""A trial's runs, leg by leg, and where a leg breaks off."""

import shutil
from pathlib import Path

import pytest

from isograd.config.load import load
from isograd.engine.config import hold_out
from isograd.errors import StudyError
from isograd.events.json_lines import read_lines
from isograd.executors.executor import make_executor
from isograd.run.checkpoint import saved
from isograd.run.stored_record import read_record
from isograd.tasks.classification import Classification
from isograd.tune.judge import read_scores
from isograd.tune.trial import TrialRuns


def runs_in(folder: Path, *more: str) -> TrialRuns:
    options = ["model.width=4", "train.epochs=2", "lr_schedule.warmup_epochs=1", "executor.device=cpu"]
    options += ["executor=sequential", "method.auxiliary=linear", *more]
    return TrialRuns(hold_out(load(options)), (0,), folder, make_executor)


def test_legs_come_to_what_a_run_without_them_comes_to(tmp_path: Path) -> None:
    trial = runs_in(tmp_path)
    first, second = trial.advance(1), trial.advance(2)
    whole = runs_in(tmp_path / "whole").advance(2)
    scores, expected = (read_scores(leg.records, Classification.score) for leg in (second, whole))
    assert scores == expected and list(scores) == [(0, 1), (0, 2)]
    assert scores[0, 1] == first.metrics["score"] and scores[0, 2] == second.metrics["score"]
    assert second.metrics["best_score"] == min(scores.values()) and second.metrics["epoch_s"] > 0


def test_the_test_split_is_run_once_at_the_end(tmp_path: Path) -> None:
    trial = runs_in(tmp_path)
    first, second = trial.advance(1), trial.advance(2)
    assert "test_score" not in first.metrics and 0 < second.metrics["test_score"] < 1
    tested = [(record["epoch"], record["module"]) for record in second.records if record["split"] == "test"]
    assert tested == [(2, module) for module in range(4)]
    assert not any(record["split"] == "test" for record in first.records)


def test_the_steps_of_a_run_end_its_trial(tmp_path: Path) -> None:
    """21 steps an epoch: the third leg takes 4, as a run without legs does."""
    trial = runs_in(tmp_path, "train.epochs=9", "train.max_steps=46")
    legs = [trial.advance(epoch) for epoch in (1, 9)]
    assert [(leg.epoch, leg.is_complete) for leg in legs] == [(1, False), (3, True)]
    assert legs[1] == trial.advance(9), "what is trained is not trained again"
    (whole,) = runs_in(tmp_path / "whole", "train.epochs=9", "train.max_steps=46").advance(9).records[-1:]
    assert legs[1].records[-1] == whole and read_record(tmp_path / "seed-0").num_steps == 46
    assert "test_score" not in legs[0].metrics and legs[1].metrics["test_score"] > 0


def test_a_leg_that_was_lost_before_it_was_written_down_is_measured_again(tmp_path: Path) -> None:
    whole = runs_in(tmp_path / "whole").advance(2)
    trial = runs_in(tmp_path / "broken")
    trial.advance(2)
    folder = tmp_path / "broken" / "seed-0"
    (folder / "result.json").unlink()
    (folder / "legs.jsonl").unlink()
    leg = runs_in(tmp_path / "broken").advance(2)
    assert leg.metrics["score"] == whole.metrics["score"] and leg.metrics["epoch_s"] > 0


def test_what_a_leg_took_that_broke_off_is_counted(tmp_path: Path) -> None:
    runs_in(tmp_path).advance(2)
    folder = tmp_path / "seed-0"
    for lost in ("result.json", "legs.jsonl"):
        (folder / lost).unlink()
    shutil.rmtree(saved(folder / "checkpoints")[-1])  # so it goes on after the first epoch
    leg = runs_in(tmp_path).advance(2)
    rows = list(read_lines(folder / "legs.jsonl"))
    assert [row["start"] for row in rows] == [0, 21] and [row["num_samples"] for row in rows] == [1294, 1294]
    assert leg.metrics["train_s"] == sum(row["wall_s"] for row in rows) == runs_in(tmp_path).trained_s


def test_a_run_of_another_configuration_is_none_of_the_trial(tmp_path: Path) -> None:
    runs_in(tmp_path).advance(1)
    with pytest.raises(StudyError, match="seed-0 holds a run of another configuration"):
        runs_in(tmp_path, "optimizer.lr=0.2").advance(1)
