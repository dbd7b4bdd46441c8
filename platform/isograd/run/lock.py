"""A folder that one process works in at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isograd.errors import RunFolderError


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps other processes of isograd out of a folder, of a run or of a study, which need not exist.

    The lock is the system's, on a file beside the folder: it ends with the process, however that ends.

    Raises:
        RunFolderError: Another process works there.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunFolderError(
                f"{folder} is being worked in by another process now",
                "The two would write over each other",
                "Wait until that one has ended, or use another folder.",
            ) from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
