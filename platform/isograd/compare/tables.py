"""The table of a comparison: as Markdown, as LaTeX, and on the terminal."""

import re
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from isograd.compare.comparison import Comparison, Entry, Summary
from isograd.display.measures import ABSENT, RESOURCES, SPEED, Measure
from isograd.display.tables import make_table
from isograd.studies.statistics import Spread

_MINUS, _TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~])")
_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "{}&%$#_"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", _MINUS: r"$-$", _TIMES: r"$\times$"}
)


@dataclass(frozen=True)
class Table:
    """A table as text, not yet escaped for any format; every row is as long as the header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def table(comparison: Comparison) -> Table:
    """Returns the rows of a comparison, one an entry."""
    rows = (_make_row(entry, comparison.summary(entry), comparison) for entry in comparison.entries)
    return Table(_make_header(comparison), tuple(rows))


def _make_header(comparison: Comparison) -> tuple[str, ...]:
    measure, judged = comparison.measure, comparison.judged
    best = Measure("best epoch" if judged == measure else f"{judged.label} of the best epoch", measure.unit)
    difference = Measure("difference", "points" if measure.unit == "%" else measure.unit)
    return (
        *("method", "K", "epochs", measure.axis, best.axis, difference.axis, SPEED.unit),
        *("peak memory, MiB", "saved, KiB/sample", "auxiliary parameters", "device seconds"),
    )


def markdown(content: Table, notes: list[str], command: str) -> str:
    """Returns the table in Markdown, with its notes and the command that made it."""
    rule = ["---", *["---:"] * (len(content.header) - 1)]
    head, *body = [list(map(escape_markdown, cells)) for cells in (content.header, *content.rows)]
    lines = [f"| {' | '.join(cells)} |" for cells in (head, rule, *body)]
    items = [f"* {escape_markdown(note)}" for note in notes]
    return "\n".join([*lines, "", *items, "", "```sh", command, "```", ""])


def latex(content: Table, notes: list[str], command: str, hardware: list[str]) -> str:
    """Returns the table in LaTeX, for the package booktabs; what its caption should say stands above, as comments."""
    comments = ["Needs \\usepackage{booktabs}.", command, *(f"hardware: {machine}" for machine in hardware), *notes]
    head, *body = [f"{' & '.join(map(escape_latex, cells))} \\\\" for cells in (content.header, *content.rows)]
    begin = f"\\begin{{tabular}}{{l{'r' * (len(content.header) - 1)}}}"
    lines = [begin, "\\toprule", head, "\\midrule", *body, "\\bottomrule", "\\end{tabular}", ""]
    return "\n".join([*(f"% {' '.join(comment.split())}" for comment in comments), *lines])


def render(content: Table, notes: list[str]) -> RenderableType:
    """Returns the table for the terminal."""
    heads = ["\n".join(name.rsplit(" ", 1)) for name in content.header]
    return Group("", make_table(heads, content.rows, left=heads[:1], overflow="fold"), "", *map(Text, notes))


def escape_markdown(text: str) -> str:
    """Returns ``text`` such that Markdown shows it as it is, also in a cell of a table."""
    return _MARKDOWN.sub(r"\\\1", text)


def escape_latex(text: str) -> str:
    """Returns ``text`` such that LaTeX sets it as it is, also after a line break, which takes ``[`` and ``*``."""
    return ("{}" if text.startswith(("[", "*")) else "") + text.translate(_LATEX)


def _make_row(entry: Entry, summary: Summary, comparison: Comparison) -> tuple[str, ...]:
    auxiliary = entry.auxiliary
    frozen = f" + {auxiliary.num_frozen:,} frozen" if auxiliary.num_frozen else ""
    return (
        entry.label,
        str(entry.num_modules),
        str(summary.num_epochs),
        _write_score(entry, summary, comparison),
        _write_spread(summary.best, comparison.judged),
        "baseline" if entry.label == comparison.baseline else _write_difference(summary.difference, comparison.measure),
        _write_speed(summary),
        RESOURCES["peak_bytes"].number(summary.peak_bytes),
        f"{entry.saved_bytes / 2**10:,.0f}",
        f"{auxiliary.num_trainable:,}{frozen}",
        ABSENT if summary.device_s is None else f"{summary.device_s.mean:,.1f}",
    )


def _write_score(entry: Entry, summary: Summary, comparison: Comparison) -> str:
    """A failed run is said where the eye goes first."""
    num_runs, num_seeds = len(entry.runs), len(comparison.seeds)
    if entry.failures and not num_runs:
        return "failed"
    part = f" ({num_runs} of {num_seeds} seeds)" if num_runs < num_seeds else ""
    return _write_spread(summary.score, comparison.measure) + part


def _write_spread(scores: Spread | None, measure: Measure) -> str:
    if scores is None:
        return ABSENT
    return measure.number(scores.mean) + ("" if scores.deviation is None else f" ± {measure.number(scores.deviation)}")


def _write_difference(points: Spread | None, measure: Measure) -> str:
    if points is None:
        return ABSENT
    size = Spread(abs(points.mean), points.deviation, points.num_values)
    return f"{_MINUS if points.mean < 0 else '+'}{_write_spread(size, measure)} (n = {points.num_values})"


def _write_speed(summary: Summary) -> str:
    if summary.samples_per_s is None:
        return ABSENT
    mean = summary.samples_per_s.mean
    ratio = "" if summary.speed_ratio is None else f" ({summary.speed_ratio:.2f}{_TIMES})"
    return f"{mean:,.0f}{ratio}" if mean >= 100 else f"{mean:.3g}{ratio}"
