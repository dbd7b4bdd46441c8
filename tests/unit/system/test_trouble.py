"""What the machine brings about, told from what was asked for, whoever raised it."""

import errno
import os
import signal
from pathlib import Path

import pytest

from isograd.errors import ConfigError, IsogradError, MachineError, MemoryShortError, RunFolderError
from isograd.studies.records import is_finished
from isograd.system.exit_status import status_of
from isograd.system.trouble import check_readable, explained, trouble_of
from isograd.tune.request import is_study

MACHINE = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EFBIG]


@pytest.mark.parametrize("number", MACHINE, ids=errno.errorcode.get)
def test_the_systems_errors_are_the_machines(number: int, tmp_path: Path) -> None:
    found = trouble_of(OSError(number, os.strerror(number), str(tmp_path / "file")))
    assert isinstance(found, MachineError) and str(tmp_path) in found.what and os.strerror(number) in found.what
    assert found.why and found.mend


@pytest.mark.parametrize(
    "text",
    [
        "Error while serializing: I/O error: No space left on device (os error 28)",
        "(sqlite3.OperationalError) database or disk is full",
        "attempt to write a readonly database",
    ],
)
def test_other_libraries_words_are_known(text: str) -> None:
    assert isinstance(trouble_of(RuntimeError(text)), MachineError)


def test_memory_is_told_from_the_disk() -> None:
    for error in (MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory")):
        assert isinstance(trouble_of(error), MemoryShortError)
    allocator = (
        "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes"
    )
    assert isinstance(trouble_of(RuntimeError(allocator)), MemoryShortError)
    mapped = "libtorch_cpu.so: failed to map segment from shared object"
    for error in (ImportError(mapped), RuntimeError("Storage size calculation overflowed with sizes=[4, 9]")):
        assert isinstance(trouble_of(error), MemoryShortError)


def test_causes_count_and_our_words_stay() -> None:
    def failing() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RunFolderError("what", "why", "mend") from error

    with pytest.raises(IsogradError) as failure:
        failing()
    found = trouble_of(failure.value)
    assert found is not None and found.args == ("what", "why", "mend")


@pytest.mark.parametrize(
    "error", [ValueError("invalid"), ConfigError("a", "b", "c"), FileNotFoundError(2, "No such file"), KeyError("x")]
)
def test_the_rest_is_not_the_machines(error: Exception) -> None:
    assert trouble_of(error) is None


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300),
        OSError("AF_UNIX path too long"),
        RuntimeError("Could not determine home directory."),
        NotADirectoryError(errno.ENOTDIR, "Not a directory", "/etc/passwd/x"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ],
)
def test_a_command_ends_in_three_parts(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise error

    assert explained(error) is not None
    assert status_of(command) == 2 and capsys.readouterr().err.startswith("error: ")


def test_what_may_not_be_read_needs_no_other_folder_to_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.R_OK)
    found = explained(PermissionError(errno.EACCES, "Permission denied", str(tmp_path)))
    assert found is not None and found.mend == "Let this user read it (chmod), or use a copy elsewhere."


def test_a_folder_on_the_way_that_may_not_be_entered_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    found = explained(PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "mine" / "sweep.json")))
    assert (
        found is not None
        and found.what == f"{tmp_path} cannot be read (Permission denied)"
        and "may not read" in found.why
    )


def test_the_place_is_named_once_or_not_at_all() -> None:
    found = explained(OSError(errno.ENOSPC, "No space left on device"))
    assert found is not None and found.what == "No space left on device"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_told_to_end_cleans_up(number: signal.Signals) -> None:
    cleaned = []

    def command() -> int:
        try:
            signal.raise_signal(number)
            return 0
        finally:
            cleaned.append(number)

    before = signal.signal(number, signal.SIG_DFL)
    try:
        assert status_of(command) == 130 and cleaned == [number]
        assert signal.getsignal(number) == signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN)  # as below `nohup`
        assert status_of(command) == 0
    finally:
        signal.signal(number, before)


def test_an_error_of_ours_in_the_code_is_not_hidden() -> None:
    def command() -> int:
        raise KeyError("x")

    with pytest.raises(KeyError):
        status_of(command)


def test_what_may_not_be_read_is_neither_missing_nor_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_readable(tmp_path, tmp_path / "nothing", tmp_path / ("x" * 300))
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "closed")  # root may read anything
    (tmp_path / "closed").mkdir()
    for check in (check_readable, is_finished, is_study):
        with pytest.raises(MachineError, match=r"closed cannot be read \(Permission denied\)\. This user"):
            check(tmp_path / "closed")
