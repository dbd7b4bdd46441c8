"""The run folder: configuration, provenance, events, checkpoints and result of one run."""

import errno
import json
import os
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from isograd.engine.config import RunConfig, to_dict
from isograd.errors import RunFolderError
from isograd.system.files import write_atomically
from isograd.system.paths import user_path


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run, and how its small files are written: wholly or not at all."""

    path: Path

    @property
    def events(self) -> Path:
        """The run's source of truth, one JSON object a line."""
        return self.path / "events.jsonl"

    @property
    def checkpoints(self) -> Path:
        """One folder a checkpoint."""
        return self.path / "checkpoints"

    @property
    def result(self) -> Path:
        """Written at the end."""
        return self.path / "result.json"

    @property
    def provenance(self) -> Path:
        """Where the run comes from: commit, packages, machine, data."""
        return self.path / "provenance.json"

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    def write_config(self, config: RunConfig) -> None:
        """Writes ``config.yaml``."""
        write_atomically(self.config, OmegaConf.to_yaml(OmegaConf.create(to_dict(config))))

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Writes a JSON file of the folder."""
        write_atomically(self.path / name, json.dumps(content, indent=2) + "\n")


def choose(config: RunConfig) -> RunFolder:
    """Returns the folder that a new run will have; nothing is made yet.

    Raises:
        RunFolderError: It exists already.
    """
    name = config.run_name or _default_name(config)
    path = absolute(config.folder) / name
    try:
        exists = path.exists()
    except OSError as error:
        raise _not_writable(RunFolder(path), error) from error
    if exists:
        raise RunFolderError(
            f"the run folder {path} exists already",
            "Two runs in one folder would mix their events",
            f"Use another run_name, or `isograd resume {path}`."
            if any(RunFolder(path).checkpoints.glob("*"))
            else "Use another run_name, or delete that folder: it has no checkpoint to go on from.",
        )
    return RunFolder(path)


def check_writable(folder: RunFolder, mend: str | None = None) -> None:
    """Tries a file where the run folder will be. Raises RunFolderError, with ``mend``; leaves nothing behind."""
    parent = folder.path.parent
    try:
        existing = next(path for path in (folder.path, parent, *parent.parents) if path.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raised = _not_writable(folder, error)
        raise (raised if mend is None else RunFolderError(raised.what, raised.why, mend)) from error


def make(folder: RunFolder) -> None:
    """Makes the folder. Raises RunFolderError where that is not possible."""
    try:
        folder.path.mkdir(parents=True)
        folder.checkpoints.mkdir()
    except OSError as error:
        raise _not_writable(folder, error) from error


def absolute(folder: str | Path) -> Path:
    """Returns a folder as an absolute path; ``~`` is the user's home."""
    return user_path(folder).absolute()


def _default_name(config: RunConfig) -> str:
    now = datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
    model = getattr(config.model, "architecture", config.model.name)
    return f"{config.method.name}-{model}-{config.data.name}-{now}"


def _not_writable(folder: RunFolder, error: OSError) -> RunFolderError:
    if error.errno == errno.ENAMETOOLONG:
        longest = max((len(os.fsencode(part)) for part in folder.path.parts), default=0)
        return RunFolderError(
            f"{str(folder.path)[:200]}... is too long a path: {len(os.fsencode(folder.path)):,} bytes, "
            f"{longest:,} in its longest name",
            "File systems take 255 bytes a name, and 4,095 a path",
            "Use a shorter run_name (of a search tune.name), or a shorter folder.",
        )
    where = folder.path if folder.path.exists() else folder.path.parent
    return RunFolderError(
        f"cannot write to {where} ({error.strerror or error})",
        "Events, checkpoints and the result of the run go there",
        "Use folder=PATH (of a search tune.folder=PATH) with a folder that you may write to.",
    )
