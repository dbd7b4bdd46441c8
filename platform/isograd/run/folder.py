"""The run folder: configuration, provenance, events, checkpoints and result of one run."""

import json
import os
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from isograd.config.load import to_dict
from isograd.config.schema import RunConfig
from isograd.errors import RunFolderError


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
    path = Path(config.folder).expanduser().absolute() / name
    if path.exists():
        raise RunFolderError(
            f"the run folder {path} exists already",
            "Two runs in one folder would mix their events",
            f"Use another run_name, or `isograd resume {path}`.",
        )
    return RunFolder(path)


def check_writable(folder: RunFolder) -> None:
    """Tries a file where the run folder will be. Raises RunFolderError; leaves nothing behind."""
    parent = folder.path.parent
    existing = next(path for path in (parent, *parent.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise _not_writable(folder, error) from error


def make(folder: RunFolder) -> None:
    """Makes the folder. Raises RunFolderError where that is not possible."""
    try:
        folder.path.mkdir(parents=True)
        folder.checkpoints.mkdir()
    except OSError as error:
        raise _not_writable(folder, error) from error


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file so that readers see the old one or the new one, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    os.replace(draft, path)


def _default_name(config: RunConfig) -> str:
    now = datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
    model = getattr(config.model, "architecture", config.model.name)
    return f"{config.method.name}-{model}-{config.data.name}-{now}"


def _not_writable(folder: RunFolder, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"cannot write to {folder.path.parent} ({error.strerror or error})",
        "Events, checkpoints and the result of the run go there",
        "Use folder=PATH (of a search tune.folder=PATH) with a folder that you may write to.",
    )
