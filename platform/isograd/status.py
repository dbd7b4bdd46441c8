"""How a command ends: its exit status, errors explained on one line, actors released on SIGTERM."""

import signal
import sys
from collections.abc import Callable
from types import FrameType

from isograd.errors import IsogradError
from isograd.report.console import wide_console


def status_of(command: Callable[[], int]) -> int:
    """Runs a command.

    Returns:
        The exit status: the command's own, 2 for an error that was explained, 130 when interrupted.
    """
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        return command()
    except IsogradError as error:
        wide_console(stderr=True).print(f"error: {error}", markup=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Handles SIGTERM: turns it into KeyboardInterrupt, so that actors and placement groups are released.

    A second one ends the process at once.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise KeyboardInterrupt
