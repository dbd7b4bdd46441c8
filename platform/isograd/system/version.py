"""Which version this is, and which versions of what it stands on are installed; none of them is imported."""

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"  # of a checkout


def version_line() -> str:
    """Returns one line: isograd's version, torch's and Ray's."""
    return ", ".join([f"isograd {_own()}", *(f"{name} {_installed(name)}" for name in ("torch", "ray"))])


def _own() -> str:
    """Returns the installed version; of a checkout that is not installed, the one of its ``pyproject.toml``."""
    try:
        return version("isograd")
    except PackageNotFoundError:
        try:
            return f"{tomllib.loads(_PROJECT.read_text(encoding='utf-8'))['project']['version']} (not installed)"
        except (OSError, ValueError, LookupError):
            return "of unknown version"


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
