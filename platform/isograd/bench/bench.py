"""The benchmarks by name, behind ``isograd bench NAME``."""

from collections.abc import Callable, Sequence
from pathlib import Path

from isograd.bench import channels, efficiency, growth, methods, overhead, pipeline, plan, rows
from isograd.bench.picture import draw, panels
from isograd.bench.rows import Row
from isograd.registry import Registry
from isograd.report.console import wide_console

Bench = Callable[[bool, Sequence[str]], list[Row]]

BENCHES: Registry[Bench] = Registry("benchmark")
BENCHES.add("channels", channels.bench)
BENCHES.add("growth", growth.bench)
BENCHES.add("methods", methods.bench)
BENCHES.add("plan", plan.bench)
BENCHES.add("pipeline", pipeline.bench)
BENCHES.add("efficiency", efficiency.bench)
BENCHES.add("overhead", overhead.bench)


def run(name: str, *, quick: bool, json_path: Path | None, picture: Path | None, overrides: Sequence[str]) -> list[Row]:
    """Runs a benchmark, prints its rows and writes them.

    Raises:
        UnknownNameError: There is no such benchmark.
    """
    found = BENCHES.get(name)(quick, overrides)
    rows.show(found, wide_console())
    if json_path is not None:
        rows.write(found, json_path)
    if picture is not None and panels(found):
        draw(found, picture)
    return found
