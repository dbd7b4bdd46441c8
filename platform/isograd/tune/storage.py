"""Where studies are kept: an SQL database or a journal, by Optuna."""

import errno
import os
import re
import shlex
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy import dialects, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from isograd.errors import ConfigError, IsogradError, StudyError
from isograd.system.passwords import hide_password, hide_passwords
from isograd.system.paths import user_path
from isograd.system.trouble import trouble_of

_SQLITE = "sqlite:///"
_DRIVER = "sqlite+pysqlite"  # the only one of SQLite's that Optuna can use
_QUERIES = ("uri", "mode", "cache", "timeout", "check_same_thread", "isolation_level", "detect_types", "immutable")
_SCHEME = re.compile(r"([A-Za-z][\w+.-]*):")
_IN_MEMORY = re.compile(r"sqlite(\+\w+)?:///?(:memory:)?(\?.*)?")
_SQLITE_MEND = "Use sqlite:///FOLDER/study.db, or sqlite:////FOLDER/study.db where the folder's path begins at the root"
_PATIENCE_S = 10  # for another process that writes


def default_url(folder: Path) -> str:
    """Returns the storage of a study that names none: SQLite in its folder."""
    return f"{_SQLITE}{folder / 'study.db'}"


def absolute_url(url: str) -> str:
    """Returns a storage so that it is found from any folder.

    Raises:
        ConfigError: It is no address of a storage, or it would be gone with the process.
    """
    if _scheme_of(url).partition("+")[0] == "sqlite":
        _check_sqlite(url)
    path = _file_of(url)
    if path is not None:
        path = user_path(path).absolute()
        return f"{_SQLITE}{path}" if _scheme_of(url) else str(path)
    try:
        make_url(url).get_dialect()
    except (ArgumentError, ValueError) as error:
        raise _no_address(url) from error
    return url


def _check_sqlite(url: str) -> None:
    """Raises ConfigError for the address of an SQLite file that says more, or less, than where the file is."""
    if _IN_MEMORY.fullmatch(url):
        raise ConfigError(
            f"tune.storage={url} is kept in memory",
            "A study is resumed, extended and read after its sweep has ended",
            "Leave tune.storage out (SQLite in the study's folder), or use sqlite:////PATH/study.db.",
        )
    scheme, slashes, rest = url.partition(":///")
    query = rest.rpartition("?")[2].partition("=")[0] if "?" in rest else ""
    if not slashes:
        raise ConfigError(
            f"tune.storage={url} is no address of an SQLite file: it lacks slashes",
            "A path from the working folder comes after three slashes, one from the root after three and its own",
            f"{_SQLITE_MEND}.",
        )
    if scheme not in ("sqlite", _DRIVER) or rest.startswith("file:") or query in _QUERIES:
        raise ConfigError(
            f"tune.storage={url} is no address of an SQLite file"
            + (f": it has the option {query}" if query in _QUERIES else ""),
            "It is sqlite:/// and the file's path as it is, whatever characters it has, and nothing more",
            f"{_SQLITE_MEND}.",
        )


def _no_address(url: str) -> ConfigError:
    path = url.removeprefix(f"{_scheme_of(url)}:")
    path = f"/{path.lstrip('/')}" if path.startswith("/") else path
    return ConfigError(
        f"tune.storage={hide_password(url)} is no address of a storage",
        f"It begins with the name of a database that SQLAlchemy knows ({', '.join(dialects.__all__)}), or is the path "
        "of a journal, which ends in .log",
        f"Use tune.storage={path} for a journal."
        if path.endswith(".log")
        else "Use sqlite:///FOLDER/study.db, postgresql://USER@HOST/NAME, or FOLDER/study.log.",
    )


def check_place(url: str, folder: Path) -> None:
    """Checks, before anything is made, that a storage can be written. Of a server nothing is known.

    Raises:
        StudyError: The file's folder is neither there nor the study's own, or one of them may only be read.
    """
    path = _file_of(url)
    if path is not None and path.parent != folder and not path.parent.is_dir():
        raise StudyError(
            f"the storage {url} cannot be made: there is no folder {path.parent}",
            "Only a study's own folder is made with it; another one that is not there may be misspelt",
            f"Make the folder (`mkdir -p {shlex.quote(str(path.parent))}`), or leave tune.storage out: SQLite in the "
            "study's folder.",
        )
    check_writable(places_of(url))


def places_of(url: str) -> tuple[Path, ...]:
    """Returns the folder and the file that a storage is written to; none of a server."""
    path = _file_of(url)
    return () if path is None else (path.parent, path)


def check_writable(places: Sequence[Path], mend: str | None = None) -> None:
    """Checks that a study can be written, without writing; what is not there yet is passed over.

    Args:
        places: Its folders and files.
        mend: What to do; None: to let this user write there.

    Raises:
        StudyError: One of them may only be read.
    """
    closed = [place for place in places if place.exists() and not os.access(place, os.W_OK)]
    if closed:
        is_disk = os.statvfs(closed[0]).f_flag & os.ST_RDONLY
        raise StudyError(
            f"{closed[0]} may only be read ({os.strerror(errno.EROFS if is_disk else errno.EACCES)})",
            "Every proposal and every result of a study is written there",
            mend or f"Let this user write there: `chmod u+w {shlex.join(map(str, closed))}`.",
        )


def open_storage(url: str, *, new: bool) -> BaseStorage:
    """Opens a storage.

    Args:
        url: An SQLAlchemy URL, or the path of a journal, which ends in ``.log``.
        new: Whether a file may be made that is not there, in a folder that is.

    Raises:
        StudyError: It is missing, locked, damaged, or its driver is not installed.
    """
    path = _file_of(url)
    if path is not None and not new and not path.exists():
        raise StudyError(
            f"the storage {url} is missing: there is no file {path}",
            "All trials of the study are kept there",
            "Use the storage that the study was begun with (tune.storage), or begin another study.",
        )
    quiet_optuna()
    with explain_errors(url):
        if path is None:
            return RDBStorage(url)
        if _scheme_of(url):
            return _open_sqlite(path)
        lock = JournalFileSymlinkLock(str(path), grace_period=_PATIENCE_S)  # one that a killed driver left
        return JournalStorage(JournalFileBackend(str(path), lock))


def _open_sqlite(path: Path) -> RDBStorage:
    """Opens a file by its path: in an address SQLAlchemy and Optuna give a meaning to ``?``, ``%`` and ``{``."""

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(path, timeout=_PATIENCE_S, check_same_thread=False)

    return RDBStorage(f"{_DRIVER}://", engine_kwargs={"creator": connect, "poolclass": QueuePool})


def quiet_optuna() -> None:
    """Keeps Optuna from saying every trial again."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@contextmanager
def explain_errors(url: str) -> Iterator[None]:
    """Raises in three parts what a storage raises in a block: a StudyError."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError, OSError, ImportError, ValueError) as error:
        raise _explain(url, error.__cause__ or error) from error


def _explain(url: str, cause: BaseException) -> IsogradError:
    if isinstance(cause, ArgumentError):
        return _no_address(url)
    shown, text = hide_password(url), hide_passwords(str(cause).partition("\n")[0])
    if "not a database" in text or "malformed" in text:
        return StudyError(
            f"the storage {shown} is damaged, or no SQLite file ({text})",
            "All trials of the study are kept there",
            "Use a copy of that file as it was, or begin another study.",
        )
    if "locked" in text:
        return StudyError(
            f"the storage {shown} is locked by another process ({type(cause).__name__}: {text})",
            f"A sweep waits for it, {_PATIENCE_S} s an attempt; every proposal and every result is written there",
            "Wait until the other process has ended, and use `isograd resume`.",
        )
    trouble, instead = trouble_of(cause), "or leave tune.storage out: SQLite in the study's folder"
    if trouble is not None:
        mend = trouble.mend.partition(":")[0]
    elif _file_of(url) is not None:
        mend = "Use tune.storage=sqlite:////FOLDER/study.db, of a file in a folder that you may write to"
    elif isinstance(cause, ModuleNotFoundError):
        mend = f"Install the database's driver, the package `{cause.name}`, where the sweep runs, {instead}"
    else:
        mend = f"Use tune.storage with a database that can be reached, {instead}"
    return StudyError(
        f"the storage {shown} cannot be used ({type(cause).__name__}: {text})",
        "Every proposal and every result is written there",
        f"{mend}.",
    )


def may_exist(url: str) -> bool:
    """Whether a storage may be there already: of a file that is known, of a server not."""
    path = _file_of(url)
    return path is None or path.exists()


def _file_of(url: str) -> Path | None:
    """Returns the file that a storage is, or None where it is a server."""
    scheme = _scheme_of(url)
    if scheme.partition("+")[0] == "sqlite":
        return Path(url.partition(":///")[2])
    return Path(url) if url.endswith(".log") and not scheme else None


def _scheme_of(url: str) -> str:
    """Returns what an address has before its colon; nothing for a path, as ``night:1.log`` is one."""
    match = _SCHEME.match(url)
    if match is None:
        return ""
    is_path = url.endswith(".log") and not url.startswith("/", match.end())
    return "" if is_path and match[1].partition("+")[0] not in dialects.__all__ else match[1]
