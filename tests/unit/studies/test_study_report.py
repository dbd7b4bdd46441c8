"""The report of a study: one file, offline, escaped, and there whatever the study came to."""

import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from isograd.cli import tune as command
from isograd.cli.main import main
from isograd.errors import RunFolderError, StudyError
from isograd.studies import report
from isograd.studies.pictures import PICTURES, StudyPicture
from isograd.studies.report import write_report
from isograd.studies.study import StudyTable
from isograd.system.console import wide_console
from tests.unit.studies.studies import trial, write

EVIL = "<script>alert(1)</script>"
VOID = ("meta", "img", "br")


class Page(HTMLParser):
    """Checks that tags match, and collects what a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.seen, self.sources, self.scripts = [], [], [], 0
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.seen.append(data)


def reported(folder: Path, said: list[str] | None = None) -> tuple[Page, str]:
    lines: list[str] = [] if said is None else said
    path = write_report(folder, lines.append)
    assert path == folder / "report.html" and (said is not None or lines == [])
    found = Page(path.read_text())
    return found, " ".join(found.seen)


def test_it_has_everything_in_one_file(tmp_path: Path) -> None:
    rows = [trial(n, ((0.5, 0.5), (0.01 * n, 0.02 * n)), values={"optimizer.lr": 0.1 * n}) for n in range(1, 10)]
    write(tmp_path, *rows, trial(10, ((0.9, 0.8),), kind="pruned"), trial(11, (), "failed"), trial(12, (), "lost"))
    found, text = reported(tmp_path)
    assert len(found.sources) == 5 and all(str(each).startswith("data:image/png;base64,") for each in found.sources)
    assert found.scripts == 1 and not re.search(r"https?://|@import|url\(", (tmp_path / "report.html").read_text())
    for part in (
        "12 of 8 trials: 9 complete, 1 pruned, 1 failed, 1 lost.",
        "1 failed: it stopped",
        "Trial 1",
        "valid error 1.50 %",
        "test error 2.50 %",
        "Its test error chose nothing.",
        "score (smaller is better)",
        f"isograd train --from-trial {shlex.quote(f'{tmp_path}/1')}",
        "number from 0.01 to 1, log scale",
        "kind is ema",
        "every split into as many local modules",
        "one in 3 goes on",
        "abc123, with uncommitted changes",
        "isograd tune by-hand",
        "torch 2.11",
        "a machine",
        "near 0 or below the bars mean nothing",
    ):
        assert part in text
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["report.html", "trials.parquet", *(f"{picture.name}.png" for picture in PICTURES)]
    )


@pytest.mark.parametrize("rows", [[], [trial(0, ((0.9, 0.8),), kind="pruned"), trial(1, (), "failed")]])
def test_a_study_without_a_complete_trial_has_one(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    write(tmp_path, *rows)
    (tmp_path / "front.png").write_text("of an earlier study")
    _, text = reported(tmp_path)
    assert "No trial is complete" in text and "Not drawn: 0 complete trials are too few for importances" in text
    assert "--from-trial" not in text and not (tmp_path / "front.png").exists()


def test_a_front_is_listed_whole(tmp_path: Path) -> None:
    rows = [trial(0, ((0.1,),), epoch_s=2.0), trial(1, ((0.2,),), epoch_s=1.0), trial(2, ((0.3,),), epoch_s=3.0)]
    write(tmp_path, *rows, objectives=["score", "epoch_s"])
    _, text = reported(tmp_path)
    assert "2 trials that no other complete one beats" in text and text.count("--from-trial") == 2


def test_text_is_text(tmp_path: Path) -> None:
    space = {"optimizer.lr": {"distribution": "categorical", "values": {EVIL: {}}, "when": {EVIL: [EVIL]}}}
    row = trial(0, values={"optimizer.lr": EVIL}, reason=EVIL, host=EVIL)
    write(tmp_path, row, study=EVIL, items=[EVIL, 'x"y'], parameters=space, provenance={"command": ["a", EVIL]})
    found, text = reported(tmp_path)
    assert found.scripts == 1 and EVIL not in (tmp_path / "report.html").read_text() and text.count(EVIL) > 6


def test_a_password_stays_here(tmp_path: Path) -> None:
    storage = "tune.storage=postgresql://me:secret@host/db"
    write(tmp_path, trial(0), items=[storage], provenance={"command": ["isograd", "tune", "man", storage]})
    _, text = reported(tmp_path)
    assert "secret" not in text and text.count("me:***@host") == 2


def test_a_picture_that_fails_is_said_and_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(study: StudyTable) -> object:
        raise ValueError("no such colour")

    broken = StudyPicture("history", "Course", lambda study: "", fail)  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(report, "PICTURES", (broken, *PICTURES[1:3]))
    write(tmp_path, trial(0))
    said: list[str] = []
    found, text = reported(tmp_path, said)
    assert said == ["history.png could not be drawn (ValueError: no such colour)"]
    assert said[0] in text and len(found.sources) == 2


def test_a_folder_that_cannot_be_written_to_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, text: str) -> None:
        raise PermissionError(13, "Permission denied")

    write(tmp_path, trial(0))
    monkeypatch.setattr(report, "write_atomically", refuse)
    with pytest.raises(RunFolderError, match=r"cannot write to .* \(Permission denied\)"):
        write_report(tmp_path)
    with pytest.raises(StudyError, match="is no study"):
        write_report(tmp_path / "nothing")


def test_a_report_that_fails_hides_no_sweep(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(folder: Path, say: object) -> Path:
        raise ValueError("no room")

    monkeypatch.setattr(report, "write_report", fail)
    study = SimpleNamespace(request=SimpleNamespace(folder=Path("studies/a")))
    command._report(study, wide_console())  # pyright: ignore[reportArgumentType]
    said = "report             could not be written (no room); `isograd report studies/a` tries again\n"
    assert capsys.readouterr().out == said


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, trial(0))
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"report             {tmp_path / 'report.html'}\n"
    assert main(["report", str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
