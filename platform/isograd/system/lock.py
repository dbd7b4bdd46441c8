"""A folder that one process works in at a time."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
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
        RunFolderError: Another process works there, or the lock's file cannot be made.
    """
    with ExitStack() as stack:
        file = _opened(folder, patience_s, stack)
        stack.enter_context(file)
        stack.callback(Path(file.name).unlink, missing_ok=True)
        yield


def _opened(folder: Path, patience_s: float, stack: ExitStack) -> TextIO:
    """Returns the locked file; what was made on the way there and stays empty is removed with the stack."""
    made = [path for path in (folder.parent, *folder.parent.parents) if not os.path.exists(path)]
    for path in reversed(made):
        stack.callback(_remove_empty, path)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return _waited_for(folder, patience_s)
    except OSError as error:
        raise RunFolderError(
            f"cannot write to {folder.parent} ({error.strerror or error})",
            f"While {folder.name[:200]} is worked in, a file there keeps other processes out",
            "Use a folder that you may write to, with a name of no more than 200 bytes.",
        ) from error


def _waited_for(folder: Path, patience_s: float) -> TextIO:
    path = folder.with_name(f".{folder.name}.lock")
    if folder.is_dir() and not os.access(folder.parent, os.W_OK):
        path = folder / ".lock"  # of a folder that alone is writable
    deadline_s = time.monotonic() + patience_s
    while (file := _locked(path)) is None:
        if time.monotonic() >= deadline_s:
            raise RunFolderError(
                f"{folder} is being worked in by another process now",
                "The two would write over each other",
                "Wait until that one has ended, or use another folder.",
            )
        time.sleep(_POLL_S)
    return file


def _remove_empty(path: Path) -> None:
    with suppress(OSError):
        path.rmdir()


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
