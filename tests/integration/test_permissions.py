"""A machine that gives little: no home, no cache, runs and studies that one may only read."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from isograd.cli.main import main
from isograd.system.lock import held
from tests.commands import Done, called, together
from tests.unit.data.folders import write_folder

pytestmark = pytest.mark.long

QUICK = ("model.width=4", "train.max_steps=2", "executor.device=cpu")
ALONE = (*QUICK, "executor=sequential")
SWEPT = ("model.width=4", "train.epochs=1", "executor=sequential", "executor.device=cpu", "tune.max_concurrent=1")
# Root may write anywhere, unless it has lost these rights.
AS_A_USER = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")


BEFORE = AS_A_USER if os.getuid() == 0 else ()


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a run and a study, none of which may be written to."""
    folder = tmp_path_factory.mktemp("locked")
    if BEFORE and shutil.which(BEFORE[0]) is None:
        pytest.skip("root may write anywhere, and there is no setpriv to take that right away")
    assert main(["train", *ALONE, f"folder={folder}", "run_name=run"]) == 0
    names = (f"tune.folder={folder}", "tune.name=study", "tune.num_trials=1", "tune.scheduler=none")
    assert main(["tune", "dgl", *names, *SWEPT]) == 0
    paths = [folder, *folder.rglob("*")]
    try:
        for path in paths:
            path.chmod(0o555 if path.is_dir() else 0o444)
        probe = subprocess.run([*BEFORE, "touch", str(folder / "probe")], capture_output=True, text=True)
        if probe.returncode == 0 or "Permission denied" not in probe.stderr:
            pytest.skip(f"nothing here can be kept from this user: {probe.stderr}")
        yield folder
    finally:
        for path in paths:
            path.chmod(0o755)


@pytest.fixture(scope="module")
def answers(ray_session: None, locked: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Done]:
    """What commands answer: two at a time, for each needs seconds to start."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def command(*arguments: str, **environment: str | None) -> Callable[[], Done]:
        return lambda: called("-m", "isograd", *arguments, cwd=elsewhere, before=BEFORE, **environment)

    def homeless(*arguments: str) -> Callable[[], Done]:
        gone = {"XDG_CACHE_HOME": None, "RAY_AUTH_MODE": None, "RAY_ADDRESS": None}
        return command(*arguments, HOME=str(locked / "none"), **gone)

    commands = {
        "compares runs": command("compare", str(locked / "run"), "--output", "runs"),
        "compares a study": command("compare", str(locked / "study"), "--output", "trials"),
        "reports a study": command("report", str(locked / "study")),
        "goes on with a run": command("resume", str(locked / "run"), "train.max_steps=4"),
        "goes on with a study": command("resume", str(locked / "study"), "--extend", "1"),
        "trains there": command("train", *ALONE, f"folder={locked}"),
        "searches there": command("tune", "dgl", *SWEPT, f"tune.folder={locked}"),
        "compares there": command("compare", "dgl", *ALONE, "--output", str(locked / "compared")),
        "trains homeless": homeless("train", *ALONE, "folder=new", "run_name=alone"),
        "pipelines homeless": homeless("train", *QUICK, "folder=new", "run_name=both"),
        "plans homeless": homeless("plan", *QUICK),
    }
    return together(commands, num_at_once=2)


@pytest.mark.parametrize("name", ["compares runs", "compares a study"])
def test_what_may_only_be_read_is_read(answers: Mapping[str, Done], name: str) -> None:
    done = answers[name]
    assert done.returncode == 0 and done.stdout and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    "name",
    [
        *("reports a study", "goes on with a run", "goes on with a study"),
        *("trains there", "searches there", "compares there"),
    ],
)
def test_what_may_not_be_written_is_refused(answers: Mapping[str, Done], name: str) -> None:
    done = answers[name]
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.startswith("error: ") and "Permission denied" in done.stderr
    if name.startswith("goes on with"):
        assert "Use a copy: `cp -r --no-preserve=mode " in done.stderr


@pytest.mark.parametrize("name", ["trains homeless", "pipelines homeless", "plans homeless"])
def test_a_user_needs_no_home(answers: Mapping[str, Done], name: str) -> None:
    done = answers[name]
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    if name == "plans homeless":
        assert done.stderr.count("the cache of measurements") == 1, done.stderr


def test_images_that_may_not_be_read_are_not_left_out(locked: Path, tmp_path: Path) -> None:
    closed = write_folder(tmp_path / "in") / "train" / "cat" / "more"
    closed.mkdir(mode=0)
    try:
        arguments = ("--root", str(tmp_path / "in"), "--output", str(tmp_path / "out"))
        done = called("-m", "isograd", "prepare", "image_folder", *arguments, before=BEFORE)
    finally:
        closed.chmod(0o755)
    assert done.returncode == 2 and f"{closed} cannot be read" in done.stderr.replace("\n", ""), done.stderr
    assert not (tmp_path / "out").exists()


def test_data_that_may_not_be_read_is_neither_missing_nor_damaged(locked: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    root = write_folder(tmp_path / "in")
    assert main(["prepare", "image_folder", "--root", str(root), "--output", str(data)]) == 0
    image, shard = root / "train" / "cat" / "0.jpg", data / "train-00000-of-00001.parquet"
    trained = (
        "train",
        *ALONE,
        "data=parquet",
        f"data.path={data}",
        "data.num_classes=3",
        f"folder={tmp_path / 'runs'}",
    )
    prepared = ("prepare", "image_folder", "--root", str(root), "--output", str(tmp_path / "other"))
    for path, arguments in ((data, trained), (shard, trained), (image, prepared), (root, prepared)):
        mode = path.stat().st_mode
        path.chmod(0)
        try:
            done = called("-m", "isograd", *arguments, before=BEFORE)
        finally:
            path.chmod(mode)
        said = done.stderr.replace("\n", "")
        assert done.returncode == 2 and f"{path} cannot be read (Permission denied)" in said, said
        assert "Let this user read it" in said, said


def test_names_are_as_long_as_the_system_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, item in (("run_name", "x" * 300), ("folder", f"{tmp_path}/{'y' * 300}"), ("run_name", "é" * 130)):
        assert main(["train", *ALONE, f"folder={tmp_path}", f"{name}={item}"]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and "Traceback" not in said and "short" in said, said
    assert not list(tmp_path.iterdir())


def test_a_run_is_one_process_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *ALONE, f"folder={tmp_path}", "run_name=mine"]) == 0
    with held(tmp_path / "mine"):
        assert main(["resume", str(tmp_path / "mine"), "train.max_steps=4"]) == 2
    assert "by another process now" in capsys.readouterr().err
