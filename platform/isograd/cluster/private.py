"""What a private Ray cluster needs of the machine: a token of its own, and a folder short enough for its sockets."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from isograd.errors import MachineError

_MODE, _TOKEN, _TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_LONGEST_SOCKET = 107  # bytes that Linux takes for the path of a Unix socket
# Ray names a session by the time and the driver's process, which has 7 digits at most.
_LONGEST_NAME = "ray/session_2000-01-01_00-00-00_000000_0000000/sockets/plasma_store"


@contextmanager
def own_token() -> Iterator[None]:
    """Runs a block in which Ray finds a token that only this process and its children know.

    Ray itself would write one to the user's home, which a container may not have; and clusters that others start find
    that one. A token, or another mode, that the user has chosen stays.
    """
    chosen = os.environ.get(_MODE, "token").lower() != "token" or os.environ.get(_TOKEN) or os.environ.get(_TOKEN_PATH)
    if chosen:
        yield
        return
    os.environ[_TOKEN] = secrets.token_hex(32)
    _forget_known()
    try:
        yield
    finally:
        os.environ.pop(_TOKEN, None)
        _forget_known()


def _forget_known() -> None:
    """Lets Ray look for the token again: it keeps the first one that it found."""
    from ray import _raylet

    loader = getattr(_raylet, "AuthenticationTokenLoader", None)  # earlier versions of Ray have no tokens
    if loader is not None:
        loader.instance().reset_cache()


def check_folder() -> None:
    """Checks the folder in which a private cluster keeps its session.

    Raises:
        MachineError: Its path is too long for Unix sockets, relative or not of ASCII, or nothing can be written there.
    """
    name = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    folder = os.environ.get(name, "/tmp")
    if not os.path.isabs(folder) or not folder.isascii():
        raise MachineError(
            f"{name}={folder} is {'not of ASCII' if os.path.isabs(folder) else 'relative'}",
            "Ray hands it to processes that begin elsewhere, and takes no other characters",
            "Use RAY_TMPDIR=/tmp, or another folder's whole path.",
        )
    length = len(os.fsencode(os.path.join(folder, _LONGEST_NAME)))
    if length > _LONGEST_SOCKET:
        raise MachineError(
            f"{name}={folder} is {len(os.fsencode(folder))} bytes long; Ray's sockets below it would have up to "
            f"{length}, and the system takes {_LONGEST_SOCKET}",
            "The processes of a private Ray cluster reach each other through them",
            "Use RAY_TMPDIR=/tmp, or another folder with a short path.",
        )
    there = next(path for path in _and_parents(os.path.join(folder, "ray")) if os.path.exists(path))
    if not os.path.isdir(there) or not os.access(there, os.W_OK | os.X_OK):
        raise MachineError(
            f"{name}={folder}: nothing can be written to {there}",
            "A private Ray cluster keeps its sockets and logs there",
            "Use RAY_TMPDIR with a folder that you may write to, such as RAY_TMPDIR=/dev/shm.",
        )


def _and_parents(path: str) -> Iterator[str]:
    path = os.path.abspath(path)
    while True:
        yield path
        if path == os.path.dirname(path):
            return
        path = os.path.dirname(path)
