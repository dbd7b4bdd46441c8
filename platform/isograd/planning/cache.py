"""Measurements that are kept: the same model, batch and device cost the same tomorrow."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from isograd.system.files import write_atomically
from isograd.system.provenance import hardware

_BUSY = 0.5  # cores that others use: so many would make a measurement wrong
_LOG = logging.getLogger(__name__)
_WARNED: list[str] = []
_FORMAT = 3  # of what is kept; measurements in another one are made anew


def cache_folder() -> Path:
    """Returns where measurements are kept: below ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "isograd" / "measurements"


def kept(kind: str, key: Mapping[str, Any], measure: Callable[[], Any], cache: Path | None = None) -> Any:
    """Returns a measurement as JSON: from the cache, or else made and put there.

    Args:
        kind: What is measured.
        key: What it depends on, beside machine and torch's version.
        measure: Makes it, as JSON.
        cache: Folder; None: :func:`cache_folder`.
    """
    name = f"{kind}-{_fingerprint(key)}.json"
    try:
        return json.loads(((cache or cache_folder()) / name).read_text())["measured"]
    except FileNotFoundError:
        pass
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        _warn_of_cache("read", cache, error)
    _warn_if_busy(kind)
    found = measure()
    try:
        folder = cache or cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / name, json.dumps({"key": _whole(key), "measured": found}, indent=1, default=str))
    except (OSError, RuntimeError) as error:
        _warn_of_cache("written", cache, error)
    return json.loads(json.dumps(found))


def forget(cache: Path | None = None) -> None:
    """Removes all measurements, so that they are made anew when they are next needed."""
    try:
        for path in (cache or cache_folder()).glob("*.json"):
            path.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        _warn_of_cache("emptied", cache, error)


def _warn_of_cache(done: str, cache: Path | None, error: Exception) -> None:
    """Says once a process that measurements are made anew each time: they are the same but for their noise."""
    if _WARNED:
        return
    _WARNED.append(done)
    try:
        where = str(cache or cache_folder())
    except RuntimeError:
        where = "~/.cache, where nobody has a home,"
    _LOG.warning(
        "the cache of measurements, %s, cannot be %s (%s): they are made anew; set XDG_CACHE_HOME to a folder that you "
        "may write to",
        where,
        done,
        getattr(error, "strerror", None) or error,
    )


def _warn_if_busy(kind: str) -> None:
    cores = busy_cores()
    if cores > _BUSY:
        _LOG.warning(
            "other processes keep %.1f of %d cores busy while the %s is measured, which will be kept; "
            "`isograd plan --fresh` measures anew",
            cores,
            os.cpu_count(),
            kind,
        )


def busy_cores(duration_s: float = 0.2) -> float:
    """Returns how many of the machine's cores are in use while this process sleeps for a moment."""
    before_s, started_s = _idle_s(), time.monotonic()
    time.sleep(duration_s)
    idle = (_idle_s() - before_s) / (time.monotonic() - started_s)
    return max((os.cpu_count() or 1) - idle, 0.0)


def _idle_s() -> float:
    """The seconds that all cores together have been idle, or waiting for a disk."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


def _whole(key: Mapping[str, Any]) -> dict[str, Any]:
    return {**key, "hardware": hardware(), "torch": torch.__version__, "format": _FORMAT}


def _fingerprint(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(_whole(key), sort_keys=True, default=str).encode()).hexdigest()[:16]
