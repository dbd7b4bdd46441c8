"""What a benchmark says: rows, printed as a table and written as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from isograd.system.console import say
from isograd.system.files import write_atomically

Kind = Literal["measured", "emulated", "modelled"]


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        case: What was run.
        metric: What the figure is.
        value: In ``unit``.
        kind: ``measured`` on real work, ``emulated`` where devices sleep instead of computing, ``modelled`` where
            nothing ran.
        hardware: The machine.
    """

    case: str
    metric: str
    value: float
    unit: str
    kind: Kind
    hardware: str


def write(rows: Sequence[Row], path: Path) -> None:
    """Writes rows as a JSON list, wholly or not at all."""
    write_atomically(path, json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def show(rows: Sequence[Row], console: Console) -> None:
    """Prints rows as a table."""
    table = Table(box=None, pad_edge=False)
    for column in ("case", "metric", "value", "unit", "kind"):
        table.add_column(column, justify="right" if column == "value" else "left", no_wrap=True)
    for row in rows:
        table.add_row(row.case, row.metric, f"{row.value:.4g}", row.unit, row.kind)
    say(console, table)
    for hardware in sorted({row.hardware for row in rows}):
        say(console, f"hardware: {hardware}")
