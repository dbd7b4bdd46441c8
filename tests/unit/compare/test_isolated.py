"""Work in a process of its own: its value, its errors, its death."""

import ctypes
import os
import signal

import pytest

from isograd.compare.isolated import run_apart
from isograd.config.load import load
from isograd.errors import StageFailedError, UnknownNameError


def test_it_returns_the_value_from_another_process() -> None:
    assert run_apart(os.getpid) != os.getpid()


def test_errors_come_back() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'dgl'"):
        run_apart(load, ["method=dlg"])
    with pytest.raises(StageFailedError, match="the run ended with ValueError: invalid literal"):
        run_apart(int, "x")


def test_a_death_is_explained() -> None:
    with pytest.raises(StageFailedError, match="the process of the run ended by signal SIGKILL"):
        run_apart(signal.raise_signal, signal.SIGKILL)
    with pytest.raises(StageFailedError, match=r"by signal SIGSEGV, in native code: File .*, line \d+ in "):
        run_apart(ctypes.string_at, 0)
    with pytest.raises(StageFailedError, match="with status 3"):
        run_apart(os._exit, 3)
