"""Measurements that are kept: the same model, batch and device cost the same tomorrow."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from isograd.run.folder import write_atomically
from isograd.run.provenance import hardware

_FORMAT = 3  # of what is kept; measurements in another one are made anew


def cache_folder() -> Path:
    """Returns where measurements are kept: below ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "isograd" / "measurements"


def kept(kind: str, key: Mapping[str, Any], measure: Callable[[], Any], cache: Path | None = None) -> Any:
    """Returns a measurement as JSON: from the cache, or else made and put there.

    Args:
        kind: What is measured.
        key: What it depends on, beside machine and torch's version.
        measure: Makes it, as JSON.
        cache: Folder; None: :func:`cache_folder`.
    """
    path = (cache or cache_folder()) / f"{kind}-{_fingerprint(key)}.json"
    if path.exists():
        return json.loads(path.read_text())["measured"]
    found = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"key": _whole(key), "measured": found}, indent=1, default=str))
    return json.loads(json.dumps(found))


def _whole(key: Mapping[str, Any]) -> dict[str, Any]:
    return {**key, "hardware": hardware(), "torch": torch.__version__, "format": _FORMAT}


def _fingerprint(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(_whole(key), sort_keys=True, default=str).encode()).hexdigest()[:16]
