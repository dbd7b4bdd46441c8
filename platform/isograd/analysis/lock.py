"""A run folder that one comparison works in at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isograd.errors import RunFolderError


@contextmanager
def held(run_folder: Path) -> Iterator[None]:
    """Keeps other comparisons out of a run folder, which need not exist.

    The lock is the system's, on a file beside the folder: it ends with the process, however that ends.

    Raises:
        RunFolderError: Another comparison works there.
    """
    run_folder.parent.mkdir(parents=True, exist_ok=True)
    path = run_folder.with_name(f".{run_folder.name}.lock")
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunFolderError(
                f"{run_folder} belongs to a run that another comparison is making now",
                "Starting it again would delete what that one writes",
                "Wait until it has ended, or use another --output.",
            ) from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
