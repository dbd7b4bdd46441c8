"""The table of a comparison: as Markdown, as LaTeX, and on the terminal."""

import re
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from isograd.compare.comparison import AuxiliaryParameters, Comparison, Entry, Summary
from isograd.studies.statistics import Spread

_MINUS, _TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
_HEADER = (
    "method",
    "K",
    "epochs",
    "test error, %",
    "best epoch, %",
    "difference, points",
    "images/s",
    "peak memory, MiB",
    "saved, KiB/image",
    "auxiliary parameters",
    "device seconds",
)
_ABSENT = "-"
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~])")
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    _MINUS: r"$-$",
    _TIMES: r"$\times$",
}


@dataclass(frozen=True)
class Table:
    """A table as text, not yet escaped for any format; every row is as long as the header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def table(comparison: Comparison) -> Table:
    """Returns the rows of a comparison, one an entry."""
    num_seeds = len(comparison.seeds)
    rows = (_row(entry, comparison.summary(entry), num_seeds, comparison.baseline) for entry in comparison.entries)
    return Table(_HEADER, tuple(rows))


def markdown(content: Table, notes: list[str], command: str) -> str:
    """Returns the table in Markdown, with its notes and the command that made it."""
    rule = ["---", *["---:"] * (len(content.header) - 1)]
    lines = [content.header, *content.rows]
    head, *body = [f"| {' | '.join(map(escape_markdown, cells))} |" for cells in lines]
    listed = [f"* {escape_markdown(note)}" for note in notes]
    return "\n".join([head, f"| {' | '.join(rule)} |", *body, "", *listed, "", "```sh", command, "```", ""])


def latex(content: Table, notes: list[str], command: str, hardware: list[str]) -> str:
    """Returns the table in LaTeX, for the package booktabs; what its caption should say stands above, as comments."""
    comments = ["Needs \\usepackage{booktabs}.", command, *(f"hardware: {machine}" for machine in hardware), *notes]
    head, *body = [f"{' & '.join(map(escape_latex, cells))} \\\\" for cells in (content.header, *content.rows)]
    columns = "l" + "r" * (len(content.header) - 1)
    return "\n".join(
        [
            *(f"% {' '.join(comment.split())}" for comment in comments),
            f"\\begin{{tabular}}{{{columns}}}",
            "\\toprule",
            head,
            "\\midrule",
            *body,
            "\\bottomrule",
            "\\end{tabular}",
            "",
        ]
    )


def shown(content: Table, notes: list[str]) -> RenderableType:
    """Returns the table for the terminal."""
    grid = Grid(box=None, pad_edge=False)
    for position, name in enumerate(content.header):
        grid.add_column("\n".join(name.rsplit(" ", 1)), justify="right" if position else "left", overflow="fold")
    for cells in content.rows:
        grid.add_row(*(Text(cell) for cell in cells))
    return Group("", grid, "", *(Text(note) for note in notes))


def escape_markdown(text: str) -> str:
    """Returns ``text`` such that Markdown shows it as it is, also in a cell of a table."""
    return _MARKDOWN.sub(r"\\\1", text)


def escape_latex(text: str) -> str:
    """Returns ``text`` such that LaTeX sets it as it is, also after a line break, which takes ``[`` and ``*``."""
    guard = "{}" if text.startswith(("[", "*")) else ""
    return guard + "".join(_LATEX.get(character, character) for character in text)


def _row(entry: Entry, summary: Summary, num_seeds: int, baseline: str) -> tuple[str, ...]:
    return (
        entry.label,
        str(entry.num_modules),
        str(summary.num_epochs),
        _test_error(entry, summary, num_seeds),
        _percent(summary.best_test_error),
        "baseline" if entry.label == baseline else _difference(summary.difference),
        _speed(summary),
        _ABSENT if summary.peak_bytes is None else f"{summary.peak_bytes / 2**20:,.0f}",
        f"{entry.saved_bytes / 2**10:,.0f}",
        _parameters(entry.auxiliary),
        _ABSENT if summary.device_s is None else f"{summary.device_s.mean:,.1f}",
    )


def _test_error(entry: Entry, summary: Summary, num_seeds: int) -> str:
    """A failed run is said where the eye goes first."""
    if entry.failures and not entry.records:
        return "failed"
    num_runs = len(entry.records)
    return _percent(summary.test_error) + (f" ({num_runs} of {num_seeds} seeds)" if num_runs < num_seeds else "")


def _percent(errors: Spread | None) -> str:
    if errors is None:
        return _ABSENT
    return f"{100 * errors.mean:.2f}{_deviation(errors)}"


def _difference(points: Spread | None) -> str:
    if points is None:
        return _ABSENT
    sign = _MINUS if points.mean < 0 else "+"
    return f"{sign}{abs(100 * points.mean):.2f}{_deviation(points)} (n = {points.num_values})"


def _deviation(shares: Spread) -> str:
    return "" if shares.deviation is None else f" ± {100 * shares.deviation:.2f}"


def _speed(summary: Summary) -> str:
    if summary.images_per_s is None:
        return _ABSENT
    mean = summary.images_per_s.mean
    ratio = "" if summary.speed_ratio is None else f" ({summary.speed_ratio:.2f}{_TIMES})"
    return f"{mean:,.0f}{ratio}" if mean >= 100 else f"{mean:.3g}{ratio}"


def _parameters(auxiliary: AuxiliaryParameters) -> str:
    frozen = f" + {auxiliary.num_frozen:,} frozen" if auxiliary.num_frozen else ""
    return f"{auxiliary.num_trainable:,}{frozen}"
