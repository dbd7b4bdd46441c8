"""The terminal that tables are printed to, and how times are written on it."""

from rich.console import Console


def wide_console(*, stderr: bool = False) -> Console:
    """Returns a console at least 140 columns wide, so that tables stay whole in files and narrow windows."""
    console = Console(stderr=stderr, highlight=False)
    console.width = max(console.width, 140)
    return console


def clock(seconds: float) -> str:
    """Returns a time as ``2:05`` or ``1:02:05``."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
