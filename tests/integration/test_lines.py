"""What is printed for people to copy: paths stay whole in logs, whatever the width and the characters."""

import re
from pathlib import Path

import pytest
from rich.console import Console, Group
from rich.table import Table

import isograd
from isograd.cli.main import main
from isograd.system.console import say, wide_console
from tests.commands import called

ROOT = Path(isograd.__path__[0])
QUICK = ("model.width=4", "train.max_steps=1", "executor.device=cpu", "executor=sequential")


def test_paths_are_whole_in_a_narrow_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    folder = tmp_path / f"{'long ' * 20}[bold] :smile: é"
    name = f"2026_11_28 {'x' * 60}"
    done = called("-m", "isograd", "train", *QUICK, f"folder={folder}", f"run_name={name}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert f"run folder         {folder / name}" in lines
    assert f"result             {folder / name / 'result.json'}" in lines
    assert main(["train", *QUICK, f"folder={folder}", f"run_name={name}"]) == 2
    said = capsys.readouterr().err
    assert f"the run folder {folder / name} exists already. " in said and said.count("\n") == 1
    output = folder / "compared [i]"
    assert main(["compare", str(folder / name), "--output", str(output)]) == 0
    assert (output / "table.md").is_file()


def test_what_is_printed_is_what_was_meant() -> None:
    console = Console(width=20, record=True)
    line = f"[red]{'x ' * 50}:smile:"
    say(console, line)
    say(console, Group(line, "", line))
    assert console.export_text() == f"{line}\n{line}\n\n{line}\n"


def test_tables_are_whole_in_a_narrow_window(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    table = Table(box=None, pad_edge=False)
    table.add_column("path", no_wrap=True)
    table.add_row(f"/a/[b]/:smile:/{'y' * 90}")
    say(wide_console(), table)
    assert f"/a/[b]/:smile:/{'y' * 90}\n" in capsys.readouterr().out


def test_all_lines_go_through_one_function() -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if re.search(r"console(\(.*\))?\.print\(", path.read_text(encoding="utf-8"))
    ]
    assert found == ["system/console.py"]
