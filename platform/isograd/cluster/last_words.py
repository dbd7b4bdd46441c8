"""What a process says of its own end, in its log, where nobody else could tell.

Faults in native code leave a trace there already: Ray enables Python's fault handler in its workers. What leaves none
is ``os._exit``, and a signal that ends a process without a handler; all but SIGKILL are told by this.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

MARK = "isograd: this process was ended by"
_SILENT = ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGTRAP", "SIGSYS")


def leave_last_words() -> None:
    """Lets this process write how it ends. Its main thread calls it; elsewhere signals stay as they are."""
    os._exit = _telling(os._exit, os.getpid())
    with suppress(ValueError):  # not in the main thread
        # Ray's own handler lets a stage finish what it is at, which it cannot without its neighbours: it would hang.
        signal.signal(signal.SIGTERM, _tell)
        for name in _SILENT:
            number = getattr(signal, name)
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _tell)


@contextmanager
def no_exit() -> Iterator[None]:
    """Runs a block of a method's own code, in which ``sys.exit`` is an error as any other.

    Raises:
        RuntimeError: It was called. Ray would wait for what cannot end without this stage, before it let the process
            go, and the run would hang.
    """
    try:
        yield
    except SystemExit as error:
        raise RuntimeError(f"sys.exit({error.code!r}) was called") from error


def _telling(leave: Callable[[int], NoReturn], process_id: int) -> Callable[[int], NoReturn]:
    if getattr(leave, "tells", False):
        return leave

    def tell_and_leave(status: int) -> NoReturn:
        if os.getpid() == process_id:  # what it forked leaves like this as a matter of course
            _write(f"os._exit({status})")
        leave(status)

    tell_and_leave.tells = True  # pyright: ignore[reportFunctionMemberAccess]
    return tell_and_leave


def _tell(number: int, frame: FrameType | None) -> None:
    """Handles a signal that ends a process: says so, and lets it."""
    _write(f"signal {signal.Signals(number).name}")
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _write(how: str) -> None:
    with suppress(OSError):  # a log that is full
        os.write(2, f"{MARK} {how}\n".encode())
