"""Trials beside finished runs: what they are called, and what they are refused for."""

from pathlib import Path

import pytest

from isograd.compare.arguments import parse
from isograd.compare.finished import read_groups
from isograd.errors import ConfigError, IsogradError, StudyError
from isograd.studies.trials import find_trial, is_trial
from isograd.tune.table import TABLE
from tests.unit.studies.studies import trial, write


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Two complete trials, of which the second is better, one that was stopped, and one that failed."""
    folder = tmp_path / "made"
    rows = [
        trial(0, ((0.6, 0.5), (0.4, 0.4))),
        trial(3),
        trial(4, ((0.1, 0.1),), kind="pruned"),
        trial(5, (), "failed"),
    ]
    write(folder, *rows)
    return folder


def test_a_trial_is_records_one_a_seed(made: Path) -> None:
    first, second = find_trial(f"{made}/3").runs
    assert (first.seed, second.seed, first.config.method.name) == (0, 1, "dgl")
    assert first.record.by_epoch() == {1: 0.5, 2: 0.2} and second.record.by_epoch() == {1: 0.4, 2: 0.3}
    record = second.record
    assert (record.final, record.best, record.test, record.num_epochs) == (0.3, 0.3, pytest.approx(0.31), 2)
    assert record.num_steps == 42 and {each.num_samples for each in record.epochs} == {8}
    assert (record.samples_per_s, record.peak_bytes, record.device_s) == (101.0, 3 * 2**20, 4.0)
    assert (second.devices, record.hardware) == (["cpu"], "a machine") and first.folder == made / "3"
    assert first.record.fingerprint != record.fingerprint


@pytest.mark.parametrize("item", ["{}", "{}/", "{}/best", "{}/3", "{}/trials.parquet", "{}/trials.parquet/best"])
def test_a_study_means_its_best(made: Path, item: str) -> None:
    assert is_trial(item.format(made)) and find_trial(item.format(made)).name == "made/3"


def test_a_study_in_the_default_folder_is_found_by_name(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made.rename(made.parent / "studies")
    write(made.parent / "studies" / "dgl", trial(7))
    monkeypatch.chdir(made.parent)
    assert find_trial("dgl/7").name == find_trial("studies/dgl/best").name == "made/7"
    assert not is_trial("dgl")  # a method, as before


def test_what_names_no_study_is_none(made: Path, tmp_path: Path) -> None:
    assert not any(map(is_trial, ("dgl", "man=1", f"{made}/x", "nothing/best", "x" * 5000, "x" * 5000 + "/best")))
    with pytest.raises(StudyError, match="names no trial: there is no such study"):
        find_trial("nothing/best")
    several = tmp_path / "several"
    write(several, trial(0, ((0.1,),)), trial(1, ((0.2,),), epoch_s=1.0), objectives=["score", "epoch_s"])
    with pytest.raises(StudyError, match=r"its front has 2: \[0, 1\]"):
        find_trial(str(several))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("4", r"trial 4 of study made is not complete: pruned after 1 of 2 epochs"),
        ("5", r"trial 5 of study made is not complete: failed after 0 of 2 epochs"),
        ("9", r"study made has no trial 9"),
    ],
)
def test_only_complete_trials_are_compared(made: Path, name: str, said: str) -> None:
    with pytest.raises(StudyError, match=said) as caught:
        find_trial(f"{made}/{name}")
    assert caught.value.mend.startswith("Use ")


def test_a_trial_is_called_by_its_method_where_that_is_enough(made: Path) -> None:
    (alone,) = read_groups([made])
    assert alone.label == "dgl" and len(alone.runs) == 2
    assert "trial 3 of study made, the best of 2 complete ones among 4" in alone.remarks[0]
    labels = [group.label for group in read_groups([made / "3", made / "0"])]
    assert labels == ["dgl made/3", "dgl made/0"]
    copied = made.parent / "copy"
    copied.mkdir()
    (made / TABLE).rename(copied / "other.parquet")
    write(made, trial(3))
    labels = [group.label for group in read_groups([made / "3", copied / "other.parquet" / "3"])]
    assert labels == [f"dgl {made}/3", f"dgl {copied}/other.parquet/3"]


def test_a_trial_counts_once(made: Path) -> None:
    with pytest.raises(ConfigError, match="are the same trial, 3 of study made"):
        read_groups([made / "3", made])


def test_items_are_trials_too(made: Path) -> None:
    request = parse([str(made), f"{made}/0"], output=made / "out")
    assert request.runs == (made, made / "0") and request.asked == ()
    with pytest.raises(IsogradError, match="1 finished runs do not go with dgl"):
        parse([str(made), "dgl"], output=made / "out")
