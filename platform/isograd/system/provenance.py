"""Where a result comes from: commit, packages, machine, command."""

import os
import platform
import subprocess
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from isograd.system.passwords import hide_password

_PACKAGES = (
    "isograd",
    "torch",
    "torchvision",
    "timm",
    "ray",
    "numpy",
    "pyarrow",
    "hydra-core",
    "safetensors",
    "optuna",
    "scipy",
)


def provenance(seed: int) -> dict[str, Any]:
    """Returns what is needed to say how a run came about, as JSON."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain")),
        "command": [_program(Path(sys.argv[0])), *map(hide_password, sys.argv[1:])],
        "seed": seed,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "hardware": hardware(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "host": platform.node(),
    }


def hardware() -> str:
    """Returns one line that names the machine: GPUs, or processor and usable cores."""
    num_gpus = torch.cuda.device_count()
    if num_gpus:
        return f"{num_gpus} x {torch.cuda.get_device_name(0)}"
    return f"{_processor()}, {len(os.sched_getaffinity(0))} logical CPUs"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@lru_cache  # of a process that makes many runs, what it has imported
def _program(path: Path) -> str:
    """Returns what was called: a file of ours, called by its module, is the command line."""
    return "isograd" if path.resolve().parent == Path(__file__).resolve().parents[1] else path.name


def _git(*arguments: str) -> str | None:
    """Asks git about the checkout that this file is in; None where it is in none."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
