"""A folder that one process works in at a time."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from isograd.errors import RunFolderError

_POLL_S = 0.1


@contextmanager
def held(folder: Path, patience_s: float = 0.0) -> Iterator[None]:
    """Keeps other processes of isograd out of a folder, of a run or of a study, which need not exist.

    The lock is the system's, on a file beside the folder: it ends with the process, however that ends.

    Args:
        folder: The folder.
        patience_s: How long to wait for a process that works there, and may be about to end.

    Raises:
        RunFolderError: Another process works there.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    deadline_s = time.monotonic() + patience_s
    while (file := _locked(path)) is None:
        if time.monotonic() >= deadline_s:
            raise RunFolderError(
                f"{folder} is being worked in by another process now",
                "The two would write over each other",
                "Wait until that one has ended, or use another folder.",
            )
        time.sleep(_POLL_S)
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _locked(path: Path) -> TextIO | None:
    """Returns the file at a path, opened and locked; None where another process has it.

    A file that its holder removes while we open it is nobody's any more: the next process would make another one.
    """
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    file.close()
    return None
