"""A study from its table alone, and what is asked of it."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from isograd.display.measures import METRICS
from isograd.errors import StudyError
from isograd.studies.reading import load_study
from isograd.tune.request import parse
from isograd.tune.results import Assignment, Outcome
from isograd.tune.study import Study, create_study
from isograd.tune.table import TABLE, write_table
from tests.unit.studies.studies import study, trial, write

FIRST = {"optimizer.lr": 0.5, "kind": "ema", "1 - method.decay": 0.25}


def test_trials_have_values_seeds_and_epochs(tmp_path: Path) -> None:
    found = study(tmp_path, trial(0, values=FIRST, ends=("a", "d")), trial(3, kind="failed", scores=()))
    first, second = found.trials
    assert first.values == {
        **{"optimizer.lr": 0.5, "method.decay": 0.75, "kind": "ema", "partition.num_modules": 2},
        "partition.ends": ("a", "d"),
    }
    assert first.positions("partition.ends") == (2, 5) and first.positions("absent") == ()
    assert "method.decay" not in second.values and second.reason == "it stopped" and second.metrics == {}
    assert (first.metrics["score"], first.metrics["best_score"]) == (0.25, 0.25)
    assert [record.samples_per_s for record in first.records.values()] == [100.0, 101.0]
    assert [record.test for record in first.records.values()] == pytest.approx([0.21, 0.31])
    scores = first.scores
    assert list(scores) == [1, 2] and scores[1].mean == pytest.approx(0.45)
    assert scores[2].deviation == pytest.approx(0.1 / math.sqrt(2))
    assert found.scheduler == "asha, from epoch 1 on, one in 3 goes on at each stop"


def test_an_epoch_counts_when_all_seeds_have_it(tmp_path: Path) -> None:
    row = trial(0, kind="failed", scores=((0.5, 0.4), (0.2, 0.3)))
    row["epochs"] = [each for each in row["epochs"] if (each["seed"], each["epoch"]) != (1, 2)]
    assert list(study(tmp_path, row).trials[0].scores) == [1]


def test_only_complete_trials_can_be_best(tmp_path: Path) -> None:
    pruned = trial(0, kind="pruned", scores=((0.1, 0.1),))
    found = study(tmp_path, pruned, trial(1, ((0.3,),)), trial(2, ((0.2,),)), trial(3, ((0.2,),)))
    assert found.best is not None and found.best.number == 2
    assert [each.number for each in found.complete] == [1, 2, 3]
    assert study(tmp_path, pruned).best is None and study(tmp_path, pruned).front() == ()
    assert study(tmp_path).trials == ()


def test_a_front_is_what_no_other_beats(tmp_path: Path) -> None:
    figures = [(0.1, 9.0), (0.2, 5.0), (0.2, 6.0), (0.4, 4.0), (0.5, 4.5)]
    rows = [trial(number, ((error,),), epoch_s=time_s) for number, (error, time_s) in enumerate(figures)]
    found = study(tmp_path, *rows, trial(9, ((0.01,),), kind="pruned", epoch_s=0.1), objectives=["score", "epoch_s"])
    assert [each.number for each in found.front()] == [0, 1, 3]
    assert [each.number for each in found.front(["score"])] == [0]
    assert found.best is None
    with pytest.raises(StudyError, match="Did you mean 'score'"):
        found.front(["scor"])
    with pytest.raises(StudyError, match="no trial 7"):
        found.trial(7)


def test_frames_for_notebooks(tmp_path: Path) -> None:
    found = study(tmp_path, trial(0, values=FIRST), trial(4, kind="lost", scores=()))
    frame, epochs = found.frame(), found.epochs()
    assert list(frame.index) == [0, 4] and list(frame["kind"]) == ["complete", "lost"]
    assert frame.loc[0, "method.decay"] == 0.75 and math.isnan(frame.loc[4, "method.decay"])  # pyright: ignore[reportArgumentType]
    assert list(frame["parameter kind"]) == ["ema", "none"]
    assert math.isnan(frame.loc[4, "score"]) and frame.loc[4, "reason"] == "it stopped"  # pyright: ignore[reportArgumentType]
    final = epochs.query("split == 'valid' and module == 1").sort_values(by=["epoch", "seed"])
    assert len(epochs) == 20 and list(final["error"]) == [0.5, 0.4, 0.2, 0.3]
    assert len(study(tmp_path).frame()) == len(study(tmp_path).epochs()) == 0


def test_the_table_alone_is_enough(tmp_path: Path) -> None:
    path = write(tmp_path / "a", trial(0)).rename(tmp_path / "elsewhere.parquet")
    assert load_study(path).trials[0].number == 0 and load_study(str(path)).folder == tmp_path


def _foreign(path: Path) -> None:
    parquet.write_table(pa.table({"a": [1]}), path)


def _damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def _without_column(path: Path) -> None:
    parquet.write_table(parquet.read_table(path).drop_columns(["units"]), path)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_foreign, "is no table of a study: its metadata says format None, not 3"),
        (_damaged, "cannot be read as a study's table"),
        (_without_column, "cannot be read as a study's table (KeyError: 'units')"),
        (_empty, "cannot be read as a study's table"),
        (Path.unlink, "is no study: there is no trials.parquet in it"),
    ],
)
def test_what_is_no_table_is_explained(tmp_path: Path, spoil: Any, said: str) -> None:
    spoil(write(tmp_path, trial(0)))
    with pytest.raises(StudyError) as caught:
        load_study(tmp_path)
    assert said in caught.value.what and caught.value.mend.startswith("Use ")


SMALL = ("model.width=4", "train.epochs=2", "executor.device=cpu", "tune.name=real", "tune.seeds=[0,1]")


def begun(folder: Path, *items: str) -> Study:
    request = parse("man", [*SMALL, f"tune.folder={folder}", *items])
    return create_study(request)


def outcome(kind: str) -> Outcome:
    row = trial(0)
    metrics = {name: row[name] for name in METRICS}
    return Outcome(
        kind, metrics if kind == "complete" else {}, 2, "" if kind == "complete" else "it stopped", row["runs"]
    )


def test_what_a_sweep_writes_is_read(tmp_path: Path) -> None:
    made = begun(tmp_path, "tune.num_trials=3")
    assigned: list[Assignment] = []
    for kind in ("complete", "failed"):
        assignment = made.propose()
        assert assignment is not None
        made.tell(assignment.number, outcome(kind))
        assigned.append(assignment)
    with pytest.raises(StudyError, match=r"has no trials\.parquet yet"):
        load_study(tmp_path / "real")
    assert write_table(made, {"commit": "abc"}).name == TABLE
    found = load_study(tmp_path / "real")
    assert (found.name, found.space, found.num_trials, found.seeds) == ("real", "man", 3, (0, 1))
    assert found.data is not None and (found.data.num_train, found.data.num_valid) == (1294, 143)
    assert found.parameters == made.request.file.space.parameters
    for ours, theirs in zip(found.trials, assigned, strict=True):
        ends = theirs.settings["partition.ends"]
        assert list(ours.values["partition.ends"]) == ends
        assert [ours.units[position - 1] for position in ours.positions("partition.ends")] == ends
        assert ours.config == asdict(theirs.config)
        for name in ("optimizer.lr", "optimizer.momentum", "method.init", "partition.num_modules"):
            assert ours.values[name] == theirs.settings[name]
    assert found.best is not None and found.best.number == assigned[0].number
