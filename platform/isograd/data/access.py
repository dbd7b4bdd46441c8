"""Reading what may be damaged, or what a user may not read: said as such, and not passed over."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from isograd.errors import DataError
from isograd.system.trouble import closed_place

_LENGTH_AND_MAGIC = 8  # bytes at the end of a Parquet file: the footer's length, and PAR1


def not_allowed(path: str | Path, error: PermissionError) -> DataError:
    """Returns the error for a file or folder that this user may not read; ``path`` where ``error`` does not say."""
    path = Path(error.filename or path).absolute()
    return DataError(
        f"{closed_place(path) or path} cannot be read ({os.strerror(errno.EACCES)})",
        "To leave out what it holds would change the data set unseen",
        "Let this user read it (chmod), or use a copy elsewhere.",
    )


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Raises DataError where what is done meanwhile reads what this user may not read."""
    try:
        yield
    except PermissionError as error:
        raise not_allowed(path, error) from error


def stamp(path: str | Path) -> tuple[int, int]:
    """Returns what changes when a file does, its time and its size: what was read of it is kept under them."""
    with reading(path):
        status = Path(path).stat()
    return status.st_mtime_ns, status.st_size


@contextmanager
def open_parquet(path: str | Path) -> Iterator[pq.ParquetFile]:
    """Opens a Parquet file. Raises DataError where it is damaged, or may not be read, now or while it is open."""
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def read_footer(path: str) -> tuple[int, bytes]:
    """Returns the size of a Parquet file, bytes, and its footer. Raises DataError where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(-_LENGTH_AND_MAGIC, 2)
            length = int.from_bytes(file.read(4), "little")
            file.seek(-min(length + _LENGTH_AND_MAGIC, size), 2)
            return size, file.read(length)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str | Path, cause: Exception) -> DataError:
    if isinstance(cause, PermissionError):
        return not_allowed(path, cause)
    return DataError(
        f"cannot read {path} ({cause})", "It is damaged, or no Parquet file", "Copy, download or prepare it again."
    )
