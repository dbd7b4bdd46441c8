"""Figures: how all of them look, and as PNG on the screen of a notebook, in a page, in a file."""

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from isograd.display.measures import Measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which the colour-blind can tell apart, without the yellow that is too faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY, DARK = "#9A9A9A", "#444444"


def make_panels(count: int = 1, *, width: float = 11.0, height: float = 5.0, **options: Any) -> "list[Axes]":
    """Returns panels side by side on a figure, in inches, that takes no part in what pyplot keeps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return list(figure.subplots(1, count, squeeze=False, **options)[0])


def finish_axes(axes: "Axes", x_label: str, y_label: str, *, counts: bool = False) -> None:
    """Labels the axes, with a grid below what is drawn; where x counts, its ticks are on whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    if counts:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def start_at_zero(axes: "Axes", measure: Measure) -> None:
    """Lets the y axis start at 0, but where more is better, and 0 far off, or where values are negative."""
    if not measure.higher_is_better and axes.dataLim.ymin >= 0:
        axes.set_ylim(bottom=0)


def finish_figure(panels: "list[Axes]") -> "Figure":
    """Puts each label once below the panels, what was drawn last, on top of others, first; returns their figure."""
    figure = panels[0].get_figure(root=True)
    assert figure is not None, "panels are made on a figure"
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        labels = list(reversed(handles))
        ordered = [handles[label] for label in labels]
        figure.legend(ordered, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def make_png(figure: "Figure", dots_per_inch: int = 110) -> bytes:
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


def escape_text(text: str) -> str:
    """Returns ``text`` such that matplotlib shows it as it is."""
    return text.replace("$", r"\$")
