"""What a benchmark says: rows, printed as a table and written as JSON."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console

from isograd.display.tables import make_table
from isograd.system.console import say
from isograd.system.files import write_atomically
from isograd.system.provenance import hardware

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
    kind: Kind = "measured"
    hardware: str = field(default_factory=hardware)

    @classmethod
    def median(cls, case: str, metric: str, values: Iterable[float], unit: str, kind: Kind = "measured") -> "Row":
        """Returns the row of several rounds."""
        return cls(case, metric, statistics.median(values), unit, kind)


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Writes rows as a JSON list, wholly or not at all."""
    write_atomically(path, json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def show_rows(rows: Sequence[Row], console: Console) -> None:
    """Prints rows as a table."""
    cells = [(row.case, row.metric, f"{row.value:.4g}", row.unit, row.kind) for row in rows]
    columns = ("case", "metric", "value", "unit", "kind")
    say(console, make_table(columns, cells, left=("case", "metric", "unit", "kind"), no_wrap=True))
    for machine in sorted({row.hardware for row in rows}):
        say(console, f"hardware: {machine}")
