"""Checkpoints: a folder with tensors in safetensors and a JSON header. Loading one never executes code.

A checkpoint is the state of all K local modules at one position between two steps, under names that do not depend on
the number of stages or on the executor. It is written wholly or not at all.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from isograd.data.identity import Identity
from isograd.errors import CheckpointError
from isograd.events.events import Position, Snapshot
from isograd.run.record import FORMAT
from isograd.run.spent import Spent

_TENSORS, _HEADER, _PREFIX = "state.safetensors", "checkpoint.json", "step-"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        position: Where training goes on.
        fingerprint: Of the configuration that wrote it.
        state: All tensors by their global names.
        data: What was trained on.
        spent: What the legs of the run until here took.
    """

    position: Position
    fingerprint: str
    state: dict[str, Tensor]
    data: Identity
    spent: tuple[Spent, ...]


class Collector:
    """Gathers the snapshots of one position from all local modules, and writes a checkpoint when they are complete.

    Args:
        folder: Where checkpoints are kept.
        num_modules: K.
        fingerprint: Of the run's configuration.
        data: What the run trains on.
        keep: How many of the newest stay.
    """

    def __init__(self, folder: Path, num_modules: int, fingerprint: str, data: Identity, keep: int) -> None:
        self._folder, self._num_modules = folder, num_modules
        self._fingerprint, self._data, self._keep = fingerprint, data, max(keep, 1)
        self._gathered: dict[Position, dict[int, dict[str, Tensor]]] = {}

    def add(self, snapshot: Snapshot, spent_until: Callable[[Position], tuple[Spent, ...]]) -> Path | None:
        """Takes one module's snapshot.

        Args:
            snapshot: Of a module.
            spent_until: Returns what the legs of the run took until a position, once all its snapshots are there.

        Returns:
            The checkpoint's folder if that was the last module missing.
        """
        parts = self._gathered.setdefault(snapshot.position, {})
        assert snapshot.module not in parts, "a position is saved once"
        parts[snapshot.module] = snapshot.tensors
        if len(parts) < self._num_modules:
            return None
        state = {
            name: tensor for part in self._gathered.pop(snapshot.position).values() for name, tensor in part.items()
        }
        spent = spent_until(snapshot.position)
        made = Checkpoint(snapshot.position, self._fingerprint, state, self._data, spent)
        written = write(self._folder, made)
        for old in saved(self._folder)[: -self._keep]:
            shutil.rmtree(old)
        return written


def write(folder: Path, checkpoint: Checkpoint) -> Path:
    """Writes a checkpoint into a folder of its own below ``folder``; returns that."""
    target = folder / f"{_PREFIX}{checkpoint.position.step:08d}"
    draft = folder / f".{target.name}.{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        save_file(checkpoint.state, draft / _TENSORS)
        header = {
            "format": FORMAT,
            "fingerprint": checkpoint.fingerprint,
            "position": asdict(checkpoint.position),
            "digest": _digest(draft / _TENSORS),
            "data": checkpoint.data.to_json(),
            "spent": [asdict(leg) for leg in checkpoint.spent],
        }
        (draft / _HEADER).write_text(json.dumps(header, indent=2) + "\n")
        shutil.copymode(draft / _HEADER, draft / _TENSORS)  # safetensors lets nobody else read it
        shutil.rmtree(target, ignore_errors=True)
        os.replace(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)  # it is of no use, and the disk may be full
        raise
    return target


def saved(folder: Path) -> list[Path]:
    """Returns the complete checkpoints below ``folder``, oldest first."""
    return sorted(path.parent for path in folder.glob(f"{_PREFIX}*/{_HEADER}"))


def _digest(path: Path) -> str:
    """Returns the SHA-256 of a file: a block of zeros in it, as a crash may leave, has valid tensors."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def newest(folder: Path) -> Path:
    """Returns the newest checkpoint below ``folder``. Raises CheckpointError where there is none."""
    found = saved(folder)
    if not found:
        raise CheckpointError(
            f"there is no checkpoint in {folder}",
            "A run goes on from its newest checkpoint, and this one had none yet",
            f"Delete {folder.parent}, and start it again with `isograd train`, with "
            "checkpoint.every_steps=100, for example.",
        )
    return found[-1]


def read(path: Path, fingerprint: str, data: Identity | None = None) -> Checkpoint:
    """Reads a checkpoint.

    Args:
        path: Its folder.
        fingerprint: Of the run that is to go on from it.
        data: What that run would train on; None where it only tells what was learnt.

    Raises:
        CheckpointError: It is damaged, of another format, or was written by a run with another configuration or on
            other data.
    """
    try:
        header = _read_header(path)
        position, trained_on = Position(**header["position"]), Identity.from_json(header["data"])
        spent = tuple(Spent(**leg) for leg in header["spent"])
        state = load_file(path / _TENSORS)
    except PermissionError as error:
        raise CheckpointError(
            f"the checkpoint {path} cannot be read ({error.strerror}: {error.filename})",
            "This user may not read it",
            "Let this user read it (chmod), or let its owner go on with the run.",
        ) from error
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"the checkpoint {path} cannot be read ({error})",
            "It is incomplete or damaged",
            _mend_damaged(path),
        ) from error
    if header["fingerprint"] != fingerprint:
        raise CheckpointError(
            f"the checkpoint {path} was written with configuration {header['fingerprint']}, this run has {fingerprint}",
            "Backbone, partition, method, data, optimizer, seed and length must agree, or the result means nothing",
            "Use the configuration in its run folder; only executor, cluster, checkpoint, train.max_steps and "
            "folders may differ.",
        )
    if data not in (None, trained_on):
        raise CheckpointError(
            f"the data is not what the checkpoint {path} was trained on: {trained_on}, then; {data}, now",
            "The run would go on with other rows, and its result would be that of neither",
            "Use data.path=FOLDER with the data that it began with, or begin another run with `isograd train`.",
        )
    return Checkpoint(position, header["fingerprint"], state, trained_on, spent)


def _read_header(path: Path) -> dict[str, Any]:
    """Returns what a checkpoint says of its tensors, which are as they were written.

    Raises:
        CheckpointError: It is of another format.
        OSError, ValueError, KeyError, TypeError: It is incomplete or damaged.
    """
    header = json.loads((path / _HEADER).read_text())
    _check_format(path, header["format"])
    if header["digest"] != _digest(path / _TENSORS):
        raise ValueError(f"{_TENSORS} is not what was written: its digest is another one")
    return header


def _mend_damaged(path: Path) -> str:
    """Says which checkpoints to delete, so that the run goes on from the newest one before them that is whole."""
    folder, damaged = path.parent, [path.name]
    for older in reversed(saved(folder)):
        if older.name >= path.name:
            continue
        with suppress(CheckpointError, OSError, ValueError, KeyError, TypeError):
            _read_header(older)
            return f"Delete {' and '.join(damaged)} in {folder}; the run goes on from {older.name} then."
        damaged.append(older.name)
    return f"Delete {folder.parent}, and make the run again: no checkpoint of it is whole."


def _check_format(path: Path, known: int) -> None:
    """Raises CheckpointError for a checkpoint that another version wrote."""
    if known != FORMAT:
        raise CheckpointError(
            f"the checkpoint {path} has format {known}, and this version reads format {FORMAT}",
            "What it keeps of data, metrics and speed has other names there",
            "Train the run again with `isograd train`, or go on with the version that began it.",
        )
