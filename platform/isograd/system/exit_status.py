"""How a command ends: its exit status, errors explained on one line, actors released on SIGTERM and SIGHUP."""

import faulthandler
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from isograd.errors import IsogradError
from isograd.system.console import say, wide_console
from isograd.system.passwords import hide_passwords
from isograd.system.trouble import explained

_ENDINGS = (signal.SIGTERM, signal.SIGHUP)  # by a scheduler; by a terminal that is closed
_LAST_STREAM = 2  # standard error


def status_of(command: Callable[[], int]) -> int:
    """Runs a command.

    Returns:
        The exit status: the command's own, 2 for an error that was explained, 130 when interrupted.
    """
    # What is ignored stays so: `nohup` has a command go on when the terminal is closed.
    previous = {number: signal.getsignal(number) for number in _ENDINGS}
    handled = [number for number in _ENDINGS if previous[number] != signal.SIG_IGN]
    for number in handled:
        signal.signal(number, interrupt)
    try:
        status = command()
        sys.stdout.flush()
        return status
    except IsogradError as error:
        return _explain(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read what we print has gone, as `head` does
        _close_output()
        return 1
    except Exception as error:
        found = explained(error)
        if found is None:
            raise
        return _explain(found)
    finally:
        for number in handled:
            signal.signal(number, previous[number])


def open_streams() -> None:
    """Opens standard streams that were closed (``>&-``), to nothing.

    Without, printing fails; and the next file that is opened takes the stream's number, so that what a library prints
    is written into it.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= _LAST_STREAM:
        os.set_inheritable(number, True)  # child processes print as well
    os.close(number)
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115 - stays open


def name_faults() -> None:
    """Lets a fault in native code say where it was: without, the process ends without a word."""
    if not faulthandler.is_enabled():
        with suppress(AttributeError, OSError, ValueError):  # a stream that is no file
            faulthandler.enable(all_threads=False)


def _explain(error: IsogradError) -> int:
    say(wide_console(stderr=True), hide_passwords(f"error: {error}"))
    return 2


def _close_output() -> None:
    """Points the output nowhere, so that the interpreter does not fail to flush it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Handles SIGTERM and SIGHUP: turns them into KeyboardInterrupt, so that actors and placement groups are released.

    A second one ends the process at once.
    """
    signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt
