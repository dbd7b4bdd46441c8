"""The terminal: how lines and tables are printed to it, and how times are written on it."""

from rich.console import Console, Group, RenderableType
from rich.text import Text

_WIDTH = 140  # of tables, in columns, at least


def wide_console(*, stderr: bool = False) -> Console:
    """Returns a console at least 140 columns wide, so that tables stay whole in files and narrow windows."""
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    console.width = max(console.width, _WIDTH)
    return console


def say(console: Console, content: RenderableType) -> None:
    """Prints lines and tables as they are, in a window, a pipe and a file alike.

    No line is broken, so that a path can be copied from a log; brackets and colons in names are no markup.
    """
    parts = content.renderables if isinstance(content, Group) else [content]
    lines = Group(*(Text(part) if isinstance(part, str) else part for part in parts))
    console.print(lines, markup=False, highlight=False, soft_wrap=True)


def clock(seconds: float) -> str:
    """Returns a time as ``2:05`` or ``1:02:05``."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
