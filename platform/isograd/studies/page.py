"""A page of HTML that is one file and needs nothing else: no address in it leads elsewhere, and all text is escaped."""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1180px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #ddd; }
img { max-width: 100%; height: auto; } figure { margin: 1em 0; } figcaption { color: #444; max-width: 60em; }
code, pre { font: 13px/1.45 ui-monospace, monospace; background: #f4f4f4; padding: 0.1em 0.3em; }
pre { padding: 0.7em; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; }
th, td { text-align: left; vertical-align: top; padding: 0.25em 0.7em; border-bottom: 1px solid #e4e4e4; }
th { border-bottom: 1px solid #888; } .sortable th { cursor: pointer; } .wide { margin: 1em 0; }
td.number { text-align: right; white-space: nowrap; }
.missing { color: #8a4b00; }
"""
_SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("th").forEach((head, column) => head.addEventListener("click", () => {
    const body = table.tBodies[0], key = row => row.cells[column].dataset.key, sign = head.dataset.up ? -1 : 1;
    head.dataset.up = head.dataset.up ? "" : "1";
    const order = (a, b) => (a === "") - (b === "") || sign * (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
    body.append(...[...body.rows].sort((a, b) => order(key(a), key(b))));
  }));
}
"""
# A browser runs this one script only, whatever the page's text is, and fetches nothing.
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    f"script-src 'sha256-{base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()}'"
)


@dataclass(frozen=True)
class Cell:
    """A number in a table: what is shown, and what it is sorted by."""

    text: str
    number: float


def make_page(title: str, parts: Iterable[str]) -> str:
    """Returns a page of parts that are HTML already."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(parts)
        + f"\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def make_heading(text: str) -> str:
    """Returns the heading of a section."""
    return f"<h2>{escape(text)}</h2>"


def make_paragraph(text: str, *, missing: bool = False) -> str:
    """Returns a paragraph; ``missing``: it stands where something else should."""
    kind = ' class="missing"' if missing else ""
    return f"<p{kind}>{escape(text)}</p>"


def make_list(lines: Iterable[str]) -> str:
    """Returns a list."""
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def make_picture(content: bytes, caption: str) -> str:
    """Returns a PNG file as a part of the page, with a sentence below it."""
    data, text = base64.b64encode(content).decode(), escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


def make_table(header: Sequence[str], rows: Iterable[Sequence[Cell | str]], *, sortable: bool = False) -> str:
    """Returns a table, without a head where ``header`` is empty; a click on a head sorts a sortable one by it."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    top = f"<thead><tr>{head}</tr></thead>" if head else ""
    body = "\n".join(f"<tr>{''.join(map(_make_cell, row))}</tr>" for row in rows)
    kind = ' class="sortable"' if sortable else ""
    return f'<div class="wide"><table{kind}>{top}<tbody>\n{body}\n</tbody></table></div>'


def _make_cell(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return f'<td data-key="{escape(cell)}">{escape(cell)}</td>'
    return f'<td class="number" data-key="{cell.number!r}">{escape(cell.text)}</td>'
