"""Tables for the terminal, without lines."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text


def make_table(
    columns: Iterable[str], rows: Iterable[Sequence[object]], *, left: Collection[str] = (), **options: Any
) -> Table:
    """Returns a table of texts, numbers on the right.

    Args:
        columns: Their heads.
        rows: A cell a column; nothing in them is markup.
        left: Columns of texts, which stand on the left.
        options: Of every column, as of :meth:`rich.table.Table.add_column`.
    """
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right", **options)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    return table
