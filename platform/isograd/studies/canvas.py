"""Figures as PNG: on the screen of a notebook, in a page, in a file."""

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which the colour-blind can tell apart, without the yellow that is too faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#9A9A9A"


def new_figure(width: float = 11.0, height: float = 5.0) -> "Figure":
    """Returns an empty figure, in inches, that takes no part in what pyplot keeps."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def png(figure: "Figure", dots_per_inch: int = 110) -> bytes:
    """Returns a figure as a PNG file of 256 colours, a third as large as one of all colours."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    with rc_context():  # what is drawn here leaves the caller's settings alone
        figure.set_dpi(dots_per_inch)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    content = io.BytesIO()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    drawn.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
    return content.getvalue()


def plain(text: str) -> str:
    """Returns ``text`` such that matplotlib shows it as it is."""
    return text.replace("$", r"\$")
