"""The benchmarks by name, behind ``isograd bench NAME``. A benchmark is a file beside this one."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from isograd.bench.rows import Row, show_rows, write_rows
from isograd.errors import ConfigError
from isograd.registry import Registry
from isograd.system.console import wide_console

Bench = Callable[[bool, Sequence[str]], list[Row]]
"""Takes whether a minute's version is asked for, and overrides of the configuration; returns what it measured."""

BENCHES: Registry[Bench] = Registry("benchmark", package="isograd.bench")

Draw = Callable[[Sequence[Row], Path], None]
"""Draws the rows of a benchmark into a file."""

PICTURES: Registry[Draw] = Registry("picture", package="isograd.bench")  # by the name of the benchmark

_FORMATS = (".png", ".svg", ".pdf")


def run(name: str, *, quick: bool, json_path: Path | None, picture: Path | None, overrides: Sequence[str]) -> list[Row]:
    """Runs a benchmark, prints its rows and writes them.

    Raises:
        UnknownNameError: There is no such benchmark.
        ConfigError: A file cannot be written, or there is nothing to draw; said before anything is measured.
    """
    bench = BENCHES.get(name)
    _check_files(name, json_path, picture)
    rows = bench(quick, overrides)
    show_rows(rows, wide_console())
    if json_path is not None:
        write_rows(rows, json_path)
    if picture is not None:
        PICTURES.get(name)(rows, picture)
    return rows


def _check_files(name: str, json_path: Path | None, picture: Path | None) -> None:
    if picture is not None and name not in PICTURES:
        raise ConfigError(
            f"isograd bench {name} has no picture",
            f"One is drawn of {', '.join(PICTURES)}",
            "Leave out --picture, and use --json.",
        )
    if picture is not None and picture.suffix not in _FORMATS:
        raise ConfigError(
            f"--picture {picture} names no format that can be drawn",
            f"Known are {', '.join(_FORMATS)}",
            f"Use --picture {picture.stem}.png.",
        )
    for option, path in (("--json", json_path), ("--picture", picture)):
        if path is not None:
            _check_writable(option, path)


def _check_writable(option: str, path: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ConfigError(
            f"{option} {path} cannot be written ({error.strerror})",
            "What has been measured would be lost",
            f"Use {option} with a file in a folder that exists and that you may write to.",
        ) from error
