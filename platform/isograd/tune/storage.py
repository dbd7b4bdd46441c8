"""Where studies are kept: an SQL database or a journal, by Optuna."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from isograd.errors import ConfigError, StudyError
from isograd.paths import user_path
from isograd.trouble import trouble_of

_SQLITE = "sqlite:///"
_DRIVER = "sqlite+pysqlite"  # the only one of SQLite's that Optuna can use
_QUERIES = ("uri", "mode", "cache", "timeout", "check_same_thread", "isolation_level", "detect_types", "immutable")
_IN_MEMORY = (".", ":memory:")
_PATIENCE_S = 10  # for another process that writes


def default_url(folder: Path) -> str:
    """Returns the storage of a study that names none: SQLite in its folder."""
    return f"{_SQLITE}{folder / 'study.db'}"


def absolute_url(url: str) -> str:
    """Returns a storage so that it is found from any folder.

    Raises:
        ConfigError: It would be gone with the process.
    """
    path = _file(url)
    if path is None:
        return url
    if str(path) in _IN_MEMORY:
        raise ConfigError(
            f"tune.storage={url} is kept in memory",
            "A study is resumed, extended and read after its sweep has ended",
            "Leave tune.storage out (SQLite in the study's folder), or use sqlite:////PATH/study.db.",
        )
    _check_sqlite(url)
    path = user_path(path).absolute()
    return str(path) if url.endswith(".log") and not url.startswith("sqlite") else f"{_SQLITE}{path}"


def _check_sqlite(url: str) -> None:
    """Raises ConfigError for the address of an SQLite file that says more, or less, than where the file is."""
    if not url.startswith("sqlite"):
        return
    scheme, slashes, rest = url.partition(":///")
    query = rest.rpartition("?")[2].partition("=")[0] if "?" in rest else ""
    if slashes and scheme in ("sqlite", _DRIVER) and not rest.startswith("file:") and query not in _QUERIES:
        return
    raise ConfigError(
        f"tune.storage={url} is no address of an SQLite file"
        + (f": it has the option {query}" if query in _QUERIES else ""),
        "It is sqlite:/// and the file's path as it is, whatever characters it has, and nothing more",
        "Use sqlite:///FOLDER/study.db, or sqlite:////FOLDER/study.db where the folder's path begins at the root.",
    )


def open_storage(url: str, *, new: bool) -> BaseStorage:
    """Opens a storage.

    Args:
        url: An SQLAlchemy URL, or the path of a journal, which ends in ``.log``.
        new: Whether a file may be made that is not there.

    Raises:
        StudyError: It is missing, locked, damaged, or its driver is not installed.
    """
    path = _file(url)
    if path is not None and not new and not path.exists():
        raise StudyError(
            f"the storage {url} is missing: there is no file {path}",
            "All trials of the study are kept there",
            "Use the storage that the study was begun with (tune.storage), or begin another study.",
        )
    quiet_optuna()
    with storage_errors(url):
        if path is not None:
            path.parent.mkdir(exist_ok=True)  # what lies further up is misspelt where it does not exist
        if path is not None and url.startswith("sqlite"):
            return _sqlite(path)
        if path is not None:
            lock = JournalFileSymlinkLock(str(path), grace_period=_PATIENCE_S)  # one that a killed driver left
            return JournalStorage(JournalFileBackend(str(path), lock))
        return RDBStorage(url)


def _sqlite(path: Path) -> RDBStorage:
    """Opens a file by its path: in an address SQLAlchemy and Optuna give a meaning to ``?``, ``%`` and ``{``."""

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(path, timeout=_PATIENCE_S, check_same_thread=False)

    return RDBStorage(f"{_DRIVER}://", engine_kwargs={"creator": connect, "poolclass": QueuePool})


def quiet_optuna() -> None:
    """Keeps Optuna from saying every trial again."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Says in three parts what a storage raises.

    Raises:
        StudyError: The storage cannot be read or written.
    """
    try:
        yield
    except (SQLAlchemyError, StorageInternalError, OSError, ImportError, ValueError) as error:
        cause = error.__cause__ or error
        if isinstance(cause, ArgumentError) and not isinstance(cause, NoSuchModuleError):
            raise ConfigError(
                f"tune.storage={url} is no address of a storage",
                "It is an SQLAlchemy URL, or the path of a journal, which ends in .log",
                "Use sqlite:///FOLDER/study.db, postgresql://USER@HOST/NAME, or FOLDER/study.log.",
            ) from error
        if "not a database" in str(cause) or "malformed" in str(cause):
            raise StudyError(
                f"the storage {url} is damaged, or no SQLite file ({str(cause).splitlines()[0]})",
                "All trials of the study are kept there",
                "Use a copy of that file as it was, or begin another study.",
            ) from error
        text = str(cause).splitlines()[0]
        locked = "locked" in text
        raise StudyError(
            f"the storage {url} {'is locked by another process' if locked else 'cannot be used'} "
            f"({type(cause).__name__}: {text})",
            f"A sweep waits for it, {_PATIENCE_S} s an attempt; every proposal and every result is written there"
            if locked
            else "Every proposal and every result is written there",
            "Wait until the other process has ended, and use `isograd resume`."
            if locked
            else f"{_mend(cause)}, or leave tune.storage out: SQLite in the study's folder.",
        ) from error


def _mend(cause: BaseException) -> str:
    if isinstance(cause, ModuleNotFoundError):
        return f"Install the database's driver, the package `{cause.name}`, where the sweep runs"
    trouble = trouble_of(cause)
    if trouble is not None:
        return trouble.mend.partition(":")[0]
    if isinstance(cause, FileNotFoundError):
        return "Make the folder that it is to lie in"
    return "Use tune.storage with a database that can be reached"


def may_exist(url: str) -> bool:
    """Whether a storage may be there already: of a file that is known, of a server not."""
    path = _file(url)
    return path is None or path.exists()


def _file(url: str) -> Path | None:
    """Returns the file that a storage is, or None where it is a server."""
    if url.startswith("sqlite"):
        return Path(url.partition(":///")[2])
    return Path(url) if url.endswith(".log") else None
