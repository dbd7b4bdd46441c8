"""The benchmarks by name, behind ``isograd bench NAME``."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from isograd.bench import channels, efficiency, growth, methods, overhead, pipeline, plan, rows, search, sweep
from isograd.bench.picture import draw
from isograd.bench.rows import Row
from isograd.errors import ConfigError
from isograd.registry import Registry
from isograd.system.console import wide_console

Bench = Callable[[bool, Sequence[str]], list[Row]]

_PICTURED, _FORMATS = "pipeline", (".png", ".svg", ".pdf")

BENCHES: Registry[Bench] = Registry("benchmark")
BENCHES.add("channels", channels.bench)
BENCHES.add("growth", growth.bench)
BENCHES.add("methods", methods.bench)
BENCHES.add("plan", plan.bench)
BENCHES.add("pipeline", pipeline.bench)
BENCHES.add("efficiency", efficiency.bench)
BENCHES.add("overhead", overhead.bench)
BENCHES.add("sweep", sweep.bench)
BENCHES.add("search", search.bench)


def run(name: str, *, quick: bool, json_path: Path | None, picture: Path | None, overrides: Sequence[str]) -> list[Row]:
    """Runs a benchmark, prints its rows and writes them.

    Raises:
        UnknownNameError: There is no such benchmark.
        ConfigError: A file cannot be written, or there is nothing to draw; said before anything is measured.
    """
    bench = BENCHES.get(name)
    _check_files(name, json_path, picture)
    found = bench(quick, overrides)
    rows.show(found, wide_console())
    if json_path is not None:
        rows.write(found, json_path)
    if picture is not None:
        draw(found, picture)
    return found


def _check_files(name: str, json_path: Path | None, picture: Path | None) -> None:
    if picture is not None and name != _PICTURED:
        raise ConfigError(
            f"isograd bench {name} has no picture",
            f"What is drawn are the periods of schedules, which only {_PICTURED} compares",
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
