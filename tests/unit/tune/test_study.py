"""What a study proposes and keeps: without Ray, on SQLite as a sweep has it."""

import json
import sqlite3
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

from isograd.engine.blueprint import Blueprint
from isograd.errors import ConfigError, PlacementError, StudyError
from isograd.tasks.classification import Classification
from isograd.tasks.task import Score
from isograd.tune import storage
from isograd.tune.request import Request, move_request, parse, read_request
from isograd.tune.results import Outcome, outcome_of
from isograd.tune.study import Study, create_study, open_study

SMALL = ("model.width=4", "train.epochs=4", "tune.num_trials=6", "tune.num_startup=3")


def request(folder: Path, *items: str, space: str = "man") -> Request:
    return parse(space, [f"tune.folder={folder}", "tune.name=mine", *SMALL, *items])


def complete(error: float) -> Outcome:
    metrics = {"score": error, "peak_bytes": 100.0, "epoch_s": 1.0, "wall_s": 1.0}
    return Outcome("complete", metrics, 4)


def finish(study: Study, count: int) -> list[int]:
    numbers = []
    for index in range(count):
        assignment = study.propose()
        assert assignment is not None
        study.report(assignment.number, 2, {"score": 0.8})
        study.tell(assignment.number, complete(0.5 - index / 100))
        numbers.append(assignment.number)
    return numbers


def test_a_study_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    study = create_study(request(tmp_path))
    done = finish(study, 3)
    left = [study.propose(), study.propose()]  # under way when the driver is killed
    study.report(left[0].number, 1, {"score": 0.7})  # pyright: ignore[reportOptionalMemberAccess]
    again = open_study(read_request(tmp_path / "mine"))
    assert again.num_left == 3
    taken = [again.propose(), again.propose()]
    assert taken == left
    for assignment in taken:
        assert assignment is not None
        again.report(assignment.number, 1, {"score": 0.7})
        again.report(assignment.number, 2, {"score": 0.6})
        again.tell(assignment.number, complete(0.4))
    assert len(finish(again, 1)) == 1 and again.propose() is None
    numbers = [trial.number for trial in again.trials]
    assert len(numbers) == len(set(numbers)) == 6 and set(done) < set(numbers)
    assert all(trial.state == TrialState.COMPLETE for trial in again.trials)
    assert list(again.find_best().values.values()) == [(0.4,)]


def test_a_finished_study_is_extended_with_all_it_knew(tmp_path: Path) -> None:
    finish(create_study(request(tmp_path)), 6)
    more = open_study(read_request(tmp_path / "mine"))
    assert more.propose() is None
    more.extend(2)
    assert more.num_left == 2 and len(finish(more, 2)) == 2 and more.propose() is None
    assert len({trial.user_attrs["assigned"]["fingerprint"] for trial in more.trials}) == 8


def test_a_study_goes_on_on_another_cluster(tmp_path: Path) -> None:
    study = create_study(request(tmp_path))
    left = study.propose()
    assert left is not None and left.config.cluster.num_cpus is None
    moved = move_request(read_request(tmp_path / "mine"), ["cluster.num_cpus=3", "executor=sequential"])
    taken = open_study(moved).propose()
    assert taken is not None and taken.number == left.number and taken.settings == left.settings
    assert taken.config.cluster.num_cpus == 3 and taken.config.executor.name == "sequential"
    for item in ("optimizer.lr=1", "executor.threads=2", "executor=microbatch"):
        with pytest.raises(ConfigError, match=f"{item} cannot be changed in a study"):
            move_request(moved, [item])


def test_a_relative_storage_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    for name, url in (("one", "journal.log"), ("two", "sqlite:///trials.db")):
        monkeypatch.chdir(tmp_path)
        create_study(request(tmp_path, f"tune.storage={url}", f"tune.name={name}"))
        monkeypatch.chdir(tmp_path / "other")
        assert open_study(read_request(tmp_path / name)).num_left == 6


def test_what_a_sweep_does_not_admit_is_not_proposed(tmp_path: Path) -> None:
    def admit(blueprint: Blueprint) -> None:
        if blueprint.num_modules > 2:
            raise PlacementError("too many", "there is no room", "Use fewer.")

    study = create_study(request(tmp_path, "tune.num_trials=5"))
    study.admit = admit
    proposed = [study.propose() for _ in range(5)]
    assert all(assignment and len(assignment.settings["partition.ends"]) == 1 for assignment in proposed)


def test_what_has_failed_is_not_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(
        "options: {method: dgl, executor: sequential}\n"
        "parameters: {method: {auxiliary: {distribution: categorical, values: [linear, mlp]}}}\n"
    )
    study = create_study(request(tmp_path, space=str(path)))
    for kind in ("failed", "lost", "failed"):
        assignment = study.propose()
        assert assignment is not None and not study.is_exhausted
        study.tell(assignment.number, Outcome(kind, {}, 0, "why"))
    assert study.propose() is None and study.is_exhausted
    assert open_study(read_request(tmp_path / "mine")).propose() is None


def test_only_complete_trials_have_values(tmp_path: Path) -> None:
    study = create_study(request(tmp_path))
    for outcome in (
        Outcome("pruned", {"score": 0.1, "wall_s": 1.0}, 1),
        Outcome("failed", {}, 0, "the loss is no number"),
        Outcome("lost", {}, 0, "its node ended"),
        complete(0.3),
    ):
        assignment = study.propose()
        assert assignment is not None
        study.report(assignment.number, 1, {"score": 0.1})
        study.tell(assignment.number, outcome)
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.PRUNED, TrialState.FAIL, TrialState.FAIL, TrialState.COMPLETE]
    assert [outcome_of(trial).kind for trial in study.trials] == ["pruned", "failed", "lost", "complete"]  # pyright: ignore
    assert list(study.find_best().values.values()) == [(0.3,)]
    assert study.trials[1].values is None and study.trials[0].intermediate_values == {1: 0.1}


def test_the_first_trial_is_the_method_itself(tmp_path: Path) -> None:
    assignment = create_study(request(tmp_path)).propose()
    assert assignment is not None
    assert assignment.settings["method.decay"] == 0.995 and assignment.settings["optimizer.lr"] == 0.1
    assert assignment.settings["partition.ends"] == ["layer1.1", "layer2.1", "layer3.1"]


def test_nothing_is_tried_twice_and_an_exhausted_space_ends_the_search(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(
        "options: {method: dgl, executor: sequential}\n"
        "parameters:\n  method:\n    auxiliary: {distribution: categorical, values: [linear, mlp, cnn]}\n"
    )
    study = create_study(request(tmp_path, "tune.num_trials=9", space=str(path)))
    numbers = finish(study, 3)
    assert study.propose() is None and len(numbers) == 3
    assert {trial.user_attrs["assigned"]["settings"]["method.auxiliary"] for trial in study.trials} == {
        *("linear", "mlp", "cnn")
    }


def test_what_cannot_be_trained_is_not_proposed(tmp_path: Path) -> None:
    study = create_study(request(tmp_path, "tune.num_trials=12", space="repl"))
    intervals = []
    while (assignment := study.propose()) is not None:
        settings = assignment.settings
        intervals.append((settings["method.interval"], settings["method.mode"]))
        study.tell(assignment.number, complete(0.5))
    assert len(intervals) == 12
    assert all(interval == 2 or mode == "surrogate" for interval, mode in intervals)


@pytest.mark.parametrize("sampler", ["auto", "gp", "tpe", "nsga2", "random"])
def test_every_sampler_searches(tmp_path: Path, sampler: str) -> None:
    study = create_study(request(tmp_path, f"tune.sampler={sampler}"))
    assert len(finish(study, 6)) == 6 and study.propose() is None


@pytest.mark.parametrize("sampler", ["auto", "tpe", "nsga2"])
def test_several_objectives_have_a_front(tmp_path: Path, sampler: str) -> None:
    study = create_study(request(tmp_path, "tune.objectives=[score,epoch_s]", f"tune.sampler={sampler}"))
    for error, epoch_s in ((0.5, 1.0), (0.3, 2.0), (0.4, 3.0), (0.2, 4.0)):
        assignment = study.propose()
        assert assignment is not None
        study.report(assignment.number, 1, {"score": error})
        study.tell(assignment.number, Outcome("complete", {"score": error, "epoch_s": epoch_s}, 4))
    assignment = study.propose()
    assert assignment is not None
    study.tell(assignment.number, Outcome("pruned", {"score": 0.01, "epoch_s": 0.1}, 1))
    assert sorted(study.find_best().values.values()) == [(0.2, 4.0), (0.3, 2.0), (0.5, 1.0)]


def test_a_score_of_which_more_is_better_is_maximised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classification, "score", Score("accuracy", "%", higher_is_better=True, scale=100, label="hits"))
    study = create_study(request(tmp_path))
    for value in (0.3, 0.6, 0.5):
        assignment = study.propose()
        assert assignment is not None
        study.tell(assignment.number, complete(value))
    assert study.find_best().values == {1: (0.6,)} and str(study.find_best()) == "best 60.00 % (trial 1)"
    stored = optuna.load_study(study_name="mine", storage=study.url)
    assert stored.direction == StudyDirection.MAXIMIZE


def test_trials_are_judged_on_the_validation_split_alone(tmp_path: Path) -> None:
    assert request(tmp_path).base.data.valid == 0.1 and request(tmp_path, "data.valid=0.3").base.data.valid == 0.3
    with pytest.raises(ConfigError, match=r"data\.valid=0 leaves the trials no validation split"):
        request(tmp_path, "data.valid=0")
    path = tmp_path / "shares.yaml"
    path.write_text("parameters: {data: {valid: {distribution: float, low: 0.1, high: 0.2}}}\n")
    with pytest.raises(ConfigError, match=r"data\.valid cannot be set in a space"):
        request(tmp_path, space=str(path))


def test_a_study_of_another_format_is_refused(tmp_path: Path) -> None:
    create_study(request(tmp_path))
    path = tmp_path / "mine" / "sweep.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 1}))
    with pytest.raises(StudyError, match=r"sweep\.json has format 1, and this version reads format 2") as caught:
        read_request(tmp_path / "mine")
    assert caught.value.mend.startswith("Begin another study"), "no copy of that file is of another format"


def test_a_study_of_another_space_is_refused(tmp_path: Path) -> None:
    create_study(request(tmp_path))
    with pytest.raises(StudyError, match="isograd resume"):
        create_study(request(tmp_path))
    with pytest.raises(StudyError, match=r"another space: it differs in space\.method\.decay\.high"):
        create_study(request(tmp_path, "space.method.decay.high=0.9"))
    with pytest.raises(StudyError, match=r"differs in run\.train\.epochs"):
        create_study(request(tmp_path, "train.epochs=5"))


def test_a_missing_storage_is_named(tmp_path: Path) -> None:
    create_study(request(tmp_path))
    (tmp_path / "mine" / "study.db").unlink()
    with pytest.raises(StudyError, match=r"is missing: there is no file .*study\.db"):
        open_study(read_request(tmp_path / "mine"))
    with pytest.raises(StudyError, match="cannot be read as a study"):
        read_request(tmp_path / "other")


DAMAGED = {
    "[1": "it is no JSON, in line 1",
    "[1]": "it holds a list, where sections were to be",
    "{}": "it has no section 'sweep'",
    '{"sweep": 3}': "the section 'sweep' is '3'",
}


@pytest.mark.parametrize("text", DAMAGED)
def test_what_is_no_record_of_a_study_is_said(tmp_path: Path, text: str) -> None:
    create_study(request(tmp_path))
    path = tmp_path / "mine" / "sweep.json"
    path.write_text(text)
    with pytest.raises(StudyError, match=rf"sweep\.json is no record of a study: {DAMAGED[text]}"):
        read_request(tmp_path / "mine")


def test_the_option_of_a_study_that_is_damaged_is_named(tmp_path: Path) -> None:
    create_study(request(tmp_path))
    path = tmp_path / "mine" / "sweep.json"
    written = json.loads(path.read_text())
    for section, change, said in (
        ("sweep", {"trials": 3}, "there is no option 'tune.trials'"),
        ("sweep", {"num_trials": "many"}, 'tune.num_trials is "many", not a whole number'),
        ("base", {"model": {}}, "the section 'model' has no name"),
        ("base", {"seed": "x"}, 'seed is "x", not a whole number'),
    ):
        path.write_text(json.dumps(written | {section: written[section] | change}))
        with pytest.raises(StudyError, match=f"sweep.json is no record of a study: {said}"):
            read_request(tmp_path / "mine")


def test_a_locked_storage_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # as Optuna does between its attempts
    create_study(request(tmp_path))
    study = open_study(read_request(tmp_path / "mine"))
    other = sqlite3.connect(tmp_path / "mine" / "study.db")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StudyError, match="locked by another process"):
        study.propose()
    other.rollback()
    assert study.propose() is not None


def test_a_study_can_be_kept_in_a_journal(tmp_path: Path) -> None:
    journal = tmp_path / "elsewhere" / "journal.log"
    journal.parent.mkdir()
    finish(create_study(request(tmp_path, f"tune.storage={journal}")), 2)
    assert journal.exists() and open_study(read_request(tmp_path / "mine")).num_left == 4


def test_a_folder_is_that_of_one_study(tmp_path: Path) -> None:
    first, second = (f"tune.storage={tmp_path / name}.log" for name in ("first", "second"))
    study = create_study(request(tmp_path, first))
    create_study(request(tmp_path, second, "tune.name=other"))
    for others in ([second], [f"tune.storage={tmp_path}/third.log"], []):
        with pytest.raises(StudyError, match=r"/mine is the folder of a study that is not in .*isograd resume"):
            create_study(request(tmp_path, *others))
    assert not (tmp_path / "third.log").exists() and not (tmp_path / "mine" / "study.db").exists()
    assert finish(study, 1) == [0] and read_request(tmp_path / "mine").sweep.storage == str(tmp_path / "first.log")
    with pytest.raises(StudyError, match=r"study 'mine' is in .*first\.log already"):
        create_study(request(tmp_path, first))
    (tmp_path / "first.log").unlink()
    with pytest.raises(StudyError, match=r"Use another tune\.name, or delete that folder"):
        create_study(request(tmp_path, first))
    (tmp_path / "mine" / "sweep.json").unlink()
    create_study(request(tmp_path, "tune.name=plain"))
    with pytest.raises(StudyError, match=r"/plain is the folder .*isograd resume"):
        create_study(request(tmp_path, second, "tune.name=plain"))
    study.request.trial_folder(0).mkdir(parents=True)
    with pytest.raises(StudyError, match=r"/mine is the folder of a study that is not in"):
        create_study(request(tmp_path))


def test_what_is_no_storage(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database " * 1000)
    for url, words in (
        ("foo", "tune.storage=foo is no address of a storage"),
        (f"sqlite:///{tmp_path}/text.db", "is damaged, or no SQLite file"),
    ):
        with pytest.raises((ConfigError, StudyError), match=words):
            create_study(request(tmp_path, f"tune.storage={url}"))


@pytest.mark.parametrize(
    ("url", "mend"),
    [
        ("mysql+mysqldb://here/studies", "Install the database's driver, the package `MySQLdb`"),
        ("sqlite:////nowhere/at/all/study.db", "Make the folder .`mkdir -p /nowhere/at/all`"),
    ],
)
def test_a_storage_that_cannot_be_used_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, mend: str
) -> None:
    monkeypatch.setitem(sys.modules, "MySQLdb", None)  # not installed
    with pytest.raises(StudyError, match=mend):
        create_study(request(tmp_path, f"tune.storage={url}"))
    assert not Path("/nowhere").exists()


def test_a_database_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="there is no folder /proc/nowhere"):
        create_study(request(tmp_path, "tune.storage=sqlite:////proc/nowhere/study.db"))


@pytest.mark.parametrize(
    "name", ["a?b", "50%", "a%20b", "a#b", "with space", "é", "{x}", "a?timeout", "q'\"", "a&b=c;d"]
)
def test_a_storage_is_the_file_that_is_named_whatever_its_characters(tmp_path: Path, name: str) -> None:
    items = (f"tune.name={name}", f"tune.storage=sqlite:///{tmp_path}/{name}/{name}.db")
    finish(create_study(request(tmp_path, *items)), 1)
    assert (tmp_path / name / f"{name}.db").is_file()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == []
    assert len(open_study(read_request(tmp_path / name)).trials) == 1
    finish(create_study(request(tmp_path / name, f"tune.name={name}")), 1)
    assert (tmp_path / name / name / "study.db").is_file()
    assert len(open_study(read_request(tmp_path / name / name)).trials) == 1


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("sqlite:////tmp/study.db?timeout=3", "has the option timeout"),
        ("sqlite:///file:/tmp/study.db?uri=true", "has the option uri"),
        ("sqlite://study.db", "kept in memory|no address"),
        ("sqlite:study.db", "kept in memory|no address"),
        ("sqlite+aiosqlite:///study.db", "no address"),
    ],
)
def test_an_address_that_says_more_than_a_path_is_refused(tmp_path: Path, url: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        request(tmp_path, f"tune.storage={url}")
