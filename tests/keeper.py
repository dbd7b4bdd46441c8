"""Starts a cluster by the command it is given, and ends every process of it once its own standard input closes.

A script of its own, not part of the tests' process: what Ray starts detaches itself and renames itself, so that neither
process groups nor names nor environments say later whose it was. As a *subreaper* this process stays the ancestor of
all of it; and its input closes however the tests end.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


def descendants(ancestor: int) -> list[int]:
    """Returns the ids of all processes below this one."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found = {ancestor}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {ancestor})


def main(command: list[str]) -> None:
    if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError("no subreaper")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's: the tests' process decides when this one ends
    starting = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=lambda: print(f"\nstarted {starting.wait()}", flush=True), daemon=True).start()
    try:
        sys.stdin.read()  # beside the command, which may never come back
    finally:
        _end_all()


def _end_all() -> None:
    while left := descendants(os.getpid()):
        for process_id in left:
            try:
                os.kill(process_id, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        time.sleep(0.02)


if __name__ == "__main__":
    main(sys.argv[1:])
