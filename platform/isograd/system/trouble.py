"""What the machine brings about: disks that are full, files that may not be written, memory that is short.

Such a failure says nothing about what was asked for. Whoever has to tell the two apart, a search say, asks here; and so
does the command line, so that none of them ends in a traceback.
"""

import errno
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from isograd.errors import IsogradError, MachineError, MemoryShortError

_MEMORY = frozenset({errno.ENOMEM})
_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_MACHINE = _ROOM | {
    *(errno.EROFS, errno.EIO, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM),
    *(errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOLCK),
}
# Libraries that are no Python raise errors of their own, which have the system's words at best.
_TEXTS: tuple[tuple[str, int], ...] = (
    (r"No space left on device|os error 28\b|disk is full|OutOfDiskError|out of disk", errno.ENOSPC),
    (r"Disk quota exceeded", errno.EDQUOT),
    (r"Read-only file system|readonly database", errno.EROFS),
    (r"File too large|os error 27\b", errno.EFBIG),
    (r"Too many open files", errno.EMFILE),
    (r"Input/output error|disk I/O error", errno.EIO),
    (r"Permission denied|os error 13\b", errno.EACCES),
    (r"failed to map segment from shared object|Storage size calculation overflowed", errno.ENOMEM),
    (r"Cannot allocate memory|not enough memory: you tried to allocate|ObjectStoreFullError", errno.ENOMEM),
)
_MENDS = {
    errno.EMFILE: "Raise the limit (`ulimit -n 65536`), and go on",
    errno.ENFILE: "Raise the system's limit (fs.file-max), and go on",
    errno.EIO: "Look at the disk and at the system's log; then go on, or use another folder",
    errno.EFBIG: "Raise the limit of a file's size (`ulimit -f unlimited`), and go on",
    errno.ENAMETOOLONG: "Use a shorter name",
}


def trouble_of(error: BaseException, place: str | Path = "") -> MachineError | None:
    """Returns what the machine did to bring an error about; None where it is none of the machine's.

    Args:
        error: Whatever was raised; causes that it names are looked at as well.
        place: What was being written, to be named where the error does not say.
    """
    for each in _chain(error):
        if isinstance(each, MachineError):
            return each
        if isinstance(each, MemoryError):
            return _memory_short(str(each))
        found = _number(each)
        if found in _MEMORY:
            return _memory_short(_words(each))
        if found in _MACHINE:
            return _trouble(error, each, found, str(place))
    return None


def explained(error: BaseException) -> IsogradError | None:
    """Returns in three parts what a command ended with; None for what only a programmer can mend.

    Args:
        error: Whatever was raised.
    """
    found = trouble_of(error)
    if found is not None:
        return found
    for each in _chain(error):
        if isinstance(each, UnicodeError):
            return MachineError(
                f"text cannot be read or written: {each}",
                "Files and options are UTF-8",
                "Use names and files without other bytes.",
            )
        if isinstance(each, RuntimeError) and "home directory" in str(each):
            return MachineError(
                f"there is no home that ~ could stand for ({each})",
                "This user has none, and HOME is not set",
                "Use paths that do not begin with ~, or set HOME.",
            )
        if isinstance(each, OSError) and "AF_UNIX path too long" in str(each):
            folder = tempfile.gettempdir()
            return MachineError(
                f"TMPDIR={folder} is {len(os.fsencode(folder))} bytes long; a socket below it would have more than 107",
                "Processes that work together reach each other through sockets there",
                "Use TMPDIR=/tmp, or another folder with a short path.",
            )
        if isinstance(each, OSError):
            return _of_system(each, each.errno or 0)
    return None


def unreadable(path: str | Path, error: OSError) -> MachineError:
    """Returns what is said of a file or folder that this user may not read: it names what is closed on the way."""
    return MachineError(
        f"{closed_place(path) or path} cannot be read ({error.strerror})",
        "This user may not read it",
        "Let this user read it (chmod), or use a copy elsewhere.",
    )


def check_readable(*paths: Path) -> None:
    """Raises MachineError where this user may not read a file or a folder, or may not know whether it is there."""
    for path in paths:
        try:
            mode = os.stat(path).st_mode
        except PermissionError as error:
            raise unreadable(path, error) from error
        except OSError:
            continue  # what is missing is for others to say
        if not os.access(path, os.R_OK | os.X_OK if stat.S_ISDIR(mode) else os.R_OK):
            raise unreadable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def _trouble(error: BaseException, cause: BaseException, number: int, place: str) -> MachineError:
    """Says it in the words of ours that are there already; else in the system's."""
    if isinstance(error, IsogradError):
        return MachineError(error.what, error.why, error.mend)
    return _of_system(cause, number, place)


def _of_system(error: BaseException, number: int, place: str = "") -> MachineError:
    path = _path(error) or place
    what = os.strerror(number) if number else _words(error)
    if number in (errno.EACCES, errno.EPERM) and path and closed_place(path):
        return unreadable(path, OSError(number, what))
    room = _free(path) if number in _ROOM else ""
    mend = _MENDS.get(number, "Make room there, and go on" if number in _ROOM else "Use a folder that you may write to")
    return MachineError(
        f"{path}: {what}{room}" if path else what,
        "What has been written until now stays; what was being written is incomplete or missing",
        f"{mend}: `isograd resume FOLDER`, for a run or a search that had begun.",
    )


def closed_place(path: str | Path) -> Path | None:
    """Returns what keeps a path from being read: a folder on the way that may not be entered, or what is there.

    Args:
        path: Of a file or a folder, which need not exist.

    Returns:
        The first of them; None where this user may read the path.
    """
    place = Path(path).absolute()
    for each, right in (*((folder, os.X_OK) for folder in reversed(place.parents)), (place, os.R_OK)):
        if os.path.exists(each) and not os.access(each, right):
            return each
    return None


def _memory_short(text: str) -> MemoryShortError:
    return MemoryShortError(
        f"there is no memory left{f' ({text[:200]})' if text else ''}",
        "A process asked for more than the machine has, or its limits allow",
        "Use a smaller data.batch_size or model, fewer stages or trials at once (tune.max_concurrent), or more memory.",
    )


def _number(error: BaseException) -> int | None:
    """Returns the system's number of an error, also where only its words are left."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    text = f"{type(error).__name__}: {error}"
    return next((number for pattern, number in _TEXTS if re.search(pattern, text)), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yields an error and what it came from; Ray keeps that in an attribute of its own."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, BaseException) and not any(each is other for other in seen):
            seen.append(each)
            yield each
            context = None if each.__suppress_context__ else each.__context__
            waiting += [each.__cause__, getattr(each, "cause", None), context]


def _path(error: BaseException) -> str:
    name = getattr(error, "filename", None)
    return os.fsdecode(name) if isinstance(name, str | bytes) else ""


def _free(path: str) -> str:
    """Says how much room there is where a path lies, or would."""
    try:
        there = next(place for place in (Path(path), *Path(path).parents) if path and os.path.exists(place))
        usage = shutil.disk_usage(there)
    except (OSError, StopIteration):
        return ""
    return f"; {usage.free / 2**20:,.1f} of {usage.total / 2**20:,.1f} MiB are free now"


def _words(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
