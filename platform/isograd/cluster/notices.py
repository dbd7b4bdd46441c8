"""Keeps Ray's own notices off the terminal.

For every worker that dies or is killed, every node that is lost and every process that its memory monitor ends, Ray
prints up to some thousand characters to the driver's output, whatever the driver asked for. They name neither the
signal nor the reason, and stay in Ray's logs; what they are about, an error of ours says once.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_FROM_RAY = ("raylet", "gcs_server")


@contextmanager
def without_notices() -> Iterator[None]:
    """Runs a block in which the driver prints no notices of Ray's; what workers print is not touched."""
    from ray._private import worker

    show = getattr(worker, "print_to_stdstream", None)  # not public; where it is missing, notices are printed
    if show is None:
        yield
        return

    def show_others(data: Mapping[str, Any], ignore_prefix: bool = False) -> None:
        if data.get("pid") not in _FROM_RAY:
            show(data, ignore_prefix)

    worker.print_to_stdstream = show_others
    try:
        yield
    finally:
        worker.print_to_stdstream = show
