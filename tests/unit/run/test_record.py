"""A run's record: by what it is judged, on which split, and what is refused where one is read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from isograd.errors import NonFiniteScoreError, RunFolderError
from isograd.events.events import EpochRecord, StageReport
from isograd.run.folder import RunFolder
from isograd.run.record import RunRecord, Tally
from isograd.run.score import ScoreCheck
from isograd.run.spent import Spent
from isograd.run.stored_record import has_record, read_record
from isograd.tasks.task import Score

PSNR = Score("psnr", "dB", higher_is_better=True, label="PSNR")
STAGE = StageReport(0, (0, 1), "cpu", 4, 32, 2.0, 1.0, 0.0, 0.0, 1.0, peak_bytes=7, sent_bytes=0)
LEG = Spent(0, 24, 2.0, 3.0, 6.0, 9)


def epoch(number: int, split: str, module: int, **values: float) -> EpochRecord:
    return EpochRecord(number, split, module, None, values, 2 * number, f"block{module}", 8)


def record(score: Score = PSNR, split: str = "valid") -> RunRecord:
    tally = Tally(2, score, split)
    for number, (first, last) in enumerate([(20.0, 30.0), (21.0, 33.0), (22.0, 32.0)], start=1):
        tally.take(epoch(number, "train", 1, psnr=1.0))
        tally.take(epoch(number, "valid", 0, psnr=first))
        tally.take(epoch(number, "valid", 1, psnr=last))
    tally.take(epoch(3, "test", 1, psnr=31.0))
    legs = (LEG, Spent(3, 8, 2.0, 1.0, 2.0, 7))
    return tally.record(legs, [STAGE], checkpoint=None, fingerprint="f", hardware="h")


def test_a_run_is_judged_by_its_score_on_its_split() -> None:
    higher, lower = record(), record(replace(PSNR, higher_is_better=False))
    assert (higher.final, higher.best, lower.best, higher.test) == (32.0, 33.0, 30.0, 31.0)
    assert higher.by_epoch() == {1: 30.0, 2: 33.0, 3: 32.0} and higher.by_epoch("test") == {3: 31.0}
    assert higher.by_epoch(module=0) == {1: 20.0, 2: 21.0, 3: 22.0} and higher.module_scores == [22.0, 32.0]
    assert (higher.num_epochs, higher.num_steps) == (3, 6)
    assert (higher.samples_per_s, higher.wall_s, higher.device_s, higher.peak_bytes) == (8.0, 4.0, 8.0, 9)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_json("result.json", record().to_json())
    assert read_record(tmp_path) == record() and has_record(tmp_path)


def test_a_record_of_another_format_is_refused(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_json("result.json", {"test_error": 0.1})
    with pytest.raises(RunFolderError, match=r"result\.json has format 1, and this version reads format 2"):
        read_record(tmp_path)
    assert not has_record(tmp_path)


DAMAGED = {
    "samples_per_s": (float("inf"), "samples_per_s is Infinity"),
    "device_s": ([1.0], r"device_s is \[1.0\]"),
    "num_steps": (True, "num_steps is true, which is not a whole number"),
    "hardware": (3, "hardware is 3, which is not a text"),
    "score": ({"metric": "psnr"}, "score has no unit"),
    "epochs": ([{"epoch": 1, "split": "valid", "module": "x"}], r'epochs\[0\].module is "x"'),
    "stages": ([{"device": "cpu"}], r"stages\[0\] has no num_steps"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_field_that_is_none_of_its_type_is_named(tmp_path: Path, name: str) -> None:
    value, said = DAMAGED[name]
    RunFolder(tmp_path).write_json("result.json", record().to_json() | {name: value})
    with pytest.raises(RunFolderError, match=rf"result\.json is no result of a run: {said}") as caught:
        read_record(tmp_path)
    assert caught.value.mend.startswith(f"Delete {tmp_path}"), "there is no checkpoint to write it again from"


def test_a_value_of_a_metric_may_be_undefined_but_is_a_number(tmp_path: Path) -> None:
    tree: dict[str, Any] = json.loads(json.dumps(record().to_json()))
    tree["epochs"][0]["values"]["recall"] = float("nan")
    RunFolder(tmp_path).write_json("result.json", tree)
    assert "recall" in read_record(tmp_path).epochs[0].values
    tree["epochs"][0]["values"]["recall"] = "x"
    RunFolder(tmp_path).write_json("result.json", tree)
    with pytest.raises(RunFolderError, match=r'epochs\[0\].values.recall is "x", which is not a number'):
        read_record(tmp_path)


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("values", [{"psnr": float("nan")}, {"psnr": float("-inf")}, {"ssim": 0.9}])
def test_a_score_that_is_no_number_ends_a_run(values: dict[str, float], split: str) -> None:
    check = ScoreCheck(2, PSNR)
    for other in (epoch(2, "train", 1, **values), epoch(2, split, 0, **values), epoch(2, split, 1, psnr=30.0)):
        check.take(other)
    what = rf"the {split} PSNR after epoch 2 is {values.get('psnr', 'nan')}, no finite number, over 8 samples"
    with pytest.raises(NonFiniteScoreError, match=what):
        check.take(epoch(2, split, 1, **values))


def test_a_record_is_the_same_in_whatever_order_stages_end() -> None:
    records = [epoch(number, split, k) for number in (1, 2) for split in ("test", "train") for k in (0, 1, 2)]
    forward, backward = Tally(3, PSNR, "test"), Tally(3, PSNR, "test")
    for first, last in zip(records, reversed(records), strict=True):
        forward.take(first)
        backward.take(last)
    made = [tally.record([LEG], [], checkpoint=None, fingerprint="f", hardware="h") for tally in (forward, backward)]
    assert made[0] == made[1] and made[0].epochs == records
