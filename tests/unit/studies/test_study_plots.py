"""What is drawn of a study, and that it can be drawn."""

from dataclasses import asdict
from pathlib import Path

import pytest

from isograd.display.measures import RESOURCES
from isograd.errors import StudyError
from isograd.studies.curves import learning_curves
from isograd.studies.figures import make_png
from isograd.studies.fronts import fronts
from isograd.studies.history import histories
from isograd.studies.parallel import _columns, parallel_coordinates, ticks
from isograd.studies.pictures import PICTURES
from isograd.studies.study import StudyTable
from isograd.system.files import write_atomically
from isograd.tune.space import Categorical, Number, Parameter
from tests.unit.studies.records import PSNR
from tests.unit.studies.studies import study, trial


@pytest.fixture
def searched(tmp_path: Path) -> StudyTable:
    return study(
        tmp_path,
        trial(0, ((0.5, 0.4), (0.2, 0.3)), epoch_s=3.0),
        trial(1, ((0.9, 0.8),), kind="pruned", values={"kind": "ema", "1 - method.decay": 0.001}),
        trial(2, scores=(), kind="failed"),
        trial(4, ((0.5, 0.4), (0.4, 0.4)), epoch_s=1.0, values={"optimizer.lr": 1.0}, ends=("stem", "d")),
        trial(5, ((0.5, 0.4), (0.1, 0.1)), epoch_s=3.0, values={"optimizer.lr": 0.01}, ends=("d",)),
    )


def test_the_history_is_that_of_complete_trials(searched: StudyTable) -> None:
    (found,) = histories(searched)
    assert [(mark.trial, mark.is_complete) for mark in found.marks] == [(0, True), (1, False), (4, True), (5, True)]
    assert [mark.value for mark in found.marks] == pytest.approx([25.0, 85.0, 40.0, 10.0])
    assert found.best == ((0, 25.0), (5, 10.0), (5, 10.0)) and found.without == (2,)


def test_curves_end_where_trials_were_stopped(searched: StudyTable) -> None:
    found = learning_curves(searched)
    curves = {curve.trial: curve for curve in found.curves}
    assert list(curves) == [0, 1, 4, 5] and found.num_seeds == 2
    assert curves[1].epochs == (1,) and curves[1].rank is None and not curves[1].is_complete
    assert [curves[number].rank for number in (5, 0, 4)] == [0, 1, 2]
    assert [score.mean for score in curves[0].scores] == pytest.approx([45.0, 25.0])


def test_fronts_hold_complete_trials_that_no_other_beats(searched: StudyTable) -> None:
    by_time, by_memory = fronts(searched)
    assert [(point.trial, point.x, point.is_on_front) for point in by_time.points] == [
        (4, 1.0, True),
        (5, 3.0, True),
        (0, 3.0, False),
    ]
    assert [point.trial for point in by_memory.line] == [5] and by_memory.line[0].x == 3.0  # MiB
    assert [point.trial for point in by_time.points if point.is_chosen] == [5]


def test_of_several_objectives_the_front_stands_out(tmp_path: Path) -> None:
    rows = [trial(n, ((0.1 * n,),), epoch_s=float(e)) for n, e in ((1, 5), (2, 6), (3, 4))]
    found = study(tmp_path, *rows, objectives=["score", "epoch_s", "peak_bytes"])
    assert [curve.rank for curve in learning_curves(found).curves] == [0, None, 1]
    last = fronts(found)[-1]
    assert (last.x, last.y) == (RESOURCES["epoch_s"], RESOURCES["peak_bytes"])
    labels = ["valid error", "training time of an epoch", "peak memory of a stage"]
    assert [history.measure.label for history in histories(found)] == labels


def test_where_more_is_better_the_largest_is_the_best(tmp_path: Path) -> None:
    rows = [trial(n, ((20.0 + n,),), metric="psnr", epoch_s=float(e)) for n, e in ((1, 4), (2, 5), (3, 6), (0, 7))]
    made = study(tmp_path, *rows, score=asdict(PSNR))
    assert made.best is not None and made.best.number == 3
    assert {curve.trial: curve.rank for curve in learning_curves(made).curves} == {1: 2, 2: 1, 3: 0, 0: None}
    assert [point.trial for point in fronts(made)[0].line] == [1, 2, 3]
    assert histories(made)[0].best == ((1, 21.0), (2, 22.0), (3, 23.0), (0, 23.0))
    shades = {line.trial: line.shade for line in parallel_coordinates(made).lines}
    assert shades == {3: 0.0, 2: pytest.approx(1 / 3), 1: pytest.approx(2 / 3), 0: 1.0}


def test_parallel_coordinates_have_gaps_where_parameters_are_absent(searched: StudyTable) -> None:
    found = parallel_coordinates(searched)
    assert [axis.label for axis in found.axes] == [
        *("lr", "decay", "kind", "num_modules", "units before cut 1", "units before cut 2", "valid error, %"),
    ]
    lines = {line.trial: line for line in found.lines}
    assert [line.trial for line in found.lines] == [1, 4, 0, 5]  # the best is drawn last
    assert lines[0].positions == pytest.approx((0.5, None, 1.0, 0.0, 0.25, None, 0.5))
    assert lines[1].positions == pytest.approx((0.5, 1.0, 0.0, 0.0, 0.25, None, None))
    assert lines[4].positions == pytest.approx((1.0, None, 1.0, 0.0, 0.0, 1.0, 1.0))
    assert [lines[number].shade for number in (5, 4, 1)] == [0.0, 1.0, None]
    marks = {axis.label: axis.ticks for axis in found.axes}
    assert [text for _, text in marks["lr"]] == ["0.01", "0.1", "1"]
    assert [text for _, text in marks["decay"]] == ["0.5", "0.978", "0.999"]
    assert marks["num_modules"] == ((0.0, "2"), (1.0, "3")) and marks["kind"] == ((0.0, "ema"), (1.0, "none"))
    assert [text for _, text in marks["units before cut 1"]] == ["1", "3", "5"]


def test_switches_are_on_at_the_top_however_a_space_lists_them() -> None:
    for listed in (["true", "false"], ["false", "true"]):
        switch = Parameter(
            "method.lam",
            Categorical({label: {"method.lam": label == "true"} for label in listed}),
        )
        (column,) = _columns(switch, "lam", [])
        assert column.axis.ticks == ((0.0, "false"), (1.0, "true"))


@pytest.mark.parametrize(
    ("distribution", "texts"),
    [
        (Number(0.5, 2, step=0.5), ["0.5", "1", "1.5", "2"]),
        (Number(0, 9, step=1), ["0", "4", "9"]),
        (Number(1, 6, integer=True), ["1", "2", "3", "4", "5", "6"]),
        (Number(1, 64, integer=True), ["1", "33", "64"]),
        (Number(2, 20, integer=True, step=6), ["2", "8", "14", "20"]),
        (Number(1, 64, integer=True, log=True), ["1", "8", "64"]),
        (Number(0, 1), ["0", "0.5", "1"]),
    ],
    ids=str,
)
def test_marks_are_values_that_can_be_drawn(distribution: Number, texts: list[str]) -> None:
    assert [text for _, text in ticks(distribution)] == texts


@pytest.mark.filterwarnings("error")
def test_any_study_can_be_drawn_without_touching_settings(searched: StudyTable, tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    one = study(tmp_path, trial(0, ((0.5,),), values={"kind": "ema", "1 - method.decay": 0.5}))
    pruned = study(tmp_path, trial(0, ((0.5,),), kind="pruned"))
    many = study(tmp_path, *(trial(n, ((0.01 * n,),), values={"optimizer.lr": 0.05 * n}) for n in range(1, 12)))
    drawn = [
        picture.name for found in (searched, one, pruned, many) for picture in PICTURES if drawable(picture, found)
    ]
    assert {name: drawn.count(name) for name in drawn} == {
        **{"history": 4, "learning_curves": 4, "parallel_coordinates": 4, "front": 3, "importances": 1},
    }
    assert dict(matplotlib.rcParams) == before
    write_atomically(tmp_path / "a.png", b"abc")
    assert (tmp_path / "a.png").read_bytes() == b"abc" and len(list(tmp_path.glob("*a.png*"))) == 1


def drawable(picture: object, found: StudyTable) -> bool:
    try:
        content = make_png(picture.draw(found), 40)  # pyright: ignore[reportAttributeAccessIssue]
    except StudyError:
        return False
    return content.startswith(b"\x89PNG")
