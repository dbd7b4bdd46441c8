"""A disk that is full, really: a small file system of its own. Explained in three parts, and booked on nothing."""

import ctypes
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from isograd.cli.main import main
from isograd.tune.request import read_request
from isograd.tune.results import outcome_of
from isograd.tune.study import open_study

_BYTES = 2 * 2**20
_DETACH = 2  # MNT_DETACH
RUN = ("model.width=4", "train.epochs=2", "lr_schedule=cosine", "executor.device=cpu")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    system, path = ctypes.CDLL(None, use_errno=True), tmp_path / "disk"
    path.mkdir()
    if system.mount(b"tmpfs", os.fsencode(path), b"tmpfs", 0, f"size={_BYTES}".encode()):
        pytest.skip(f"a file system cannot be mounted: {os.strerror(ctypes.get_errno())}")
    yield path
    system.umount2(os.fsencode(path), _DETACH)  # databases are still open there


def fill(disk: Path, left_bytes: int) -> Path:
    """Leaves so much room on a disk."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(disk).free - left_bytes))
    return ballast


@pytest.mark.parametrize("left_bytes", [0, 4096, 2**17], ids=["nothing", "a page", "a checkpoint's part"])
def test_a_run_says_so_and_leaves_no_half_of_it(disk: Path, left_bytes: int, capfd: pytest.CaptureFixture[str]) -> None:
    fill(disk, left_bytes)
    assert main(["train", *RUN, "executor=sequential", f"folder={disk}", "run_name=mine"]) == 2
    said = capfd.readouterr().err
    assert said.startswith("error: ") and "No space left on device" in said and "`isograd train`" in said
    assert not list(disk.rglob(".*")), "drafts"
    assert (disk / "mine").exists() == (disk / "mine" / "provenance.json").exists(), "half a run folder"


@pytest.mark.long
def test_a_search_stops_and_goes_on_once_there_is_room(
    ray_session: None, disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = (f"tune.folder={disk}", "tune.name=mine", "tune.num_trials=2", "tune.scheduler=none")
    ballast = fill(disk, 340 * 1024)
    assert main(["tune", "dgl", *names, *RUN, "tune.max_concurrent=1"]) == 2
    said = "".join(capfd.readouterr())
    assert "No space left on device" in said and f"`isograd resume {disk}/mine`" in said and "Traceback" not in said
    study = open_study(read_request(disk / "mine"))
    assert not any(outcome_of(trial) for trial in study.trials) and study.num_left == 2
    ballast.unlink()
    assert main(["resume", str(disk / "mine")]) == 0
    outcomes = [outcome_of(trial) for trial in open_study(read_request(disk / "mine")).trials]
    assert [outcome and outcome.kind for outcome in outcomes] == ["complete", "complete"]


def test_a_study_that_does_not_fit_leaves_nothing(
    ray_session: None, disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fill(disk, 8192)
    assert main(["tune", "dgl", f"tune.folder={disk}", "tune.name=mine", "tune.num_trials=1", *RUN]) == 2
    said = capfd.readouterr().err
    assert said.startswith("error: ") and "full" in said.lower() and not (disk / "mine").exists(), said
