"""The terminal that tables are printed to."""

from rich.console import Console


def wide_console(*, stderr: bool = False) -> Console:
    """Returns a console at least 140 columns wide, so that tables stay whole in files and narrow windows."""
    console = Console(stderr=stderr, highlight=False)
    console.width = max(console.width, 140)
    return console
