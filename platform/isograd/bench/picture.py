"""A picture of a benchmark's periods: a panel for each case, a bar for each schedule, modelled ideals as marks."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from isograd.bench.bench import PICTURES
from isograd.bench.rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PERIOD, _IDEAL = "period, ", "ideal period, "
_OURS, _OTHERS = "#0072B2", "#999999"


@PICTURES.register("pipeline")
def draw(rows: Sequence[Row], path: Path) -> None:
    """Draws all cases that have periods, one below the other."""
    from matplotlib.figure import Figure

    panels = [[row for row in rows if row.case == case] for case in dict.fromkeys(row.case for row in rows)]
    panels = [own for own in panels if any(row.metric.startswith(_PERIOD) for row in own)]
    heights = [1 + sum(row.metric.startswith(_PERIOD) for row in own) for own in panels]
    figure = Figure(figsize=(9, 0.22 * sum(heights) + 0.8 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, own in zip(axes, panels, strict=True):
        _draw_panel(axis, own)
    figure.savefig(path, dpi=150)


def _draw_panel(axes: "Axes", rows: Sequence[Row]) -> None:
    bars = {row.metric.removeprefix(_PERIOD): row for row in rows if row.metric.startswith(_PERIOD)}
    ideals = {row.metric.removeprefix(_IDEAL): row.value for row in rows if row.metric.startswith(_IDEAL)}
    names, values = list(bars), [row.value for row in bars.values()]
    axes.barh(range(len(names)), values, color=[_OURS if name == "PPLL" else _OTHERS for name in names])
    marked = [(ideals[name], place) for place, name in enumerate(names) if name in ideals]
    if marked:
        label = "without communication (modelled)"
        axes.plot(*zip(*marked, strict=True), "|", color="black", markersize=9, label=label)
        axes.legend(frameon=False, loc="lower right", fontsize="small")
    for place, value in enumerate(values):
        axes.text(value, place, f" {value:,.0f}", va="center", fontsize="small")
    axes.set_yticks(range(len(names)), names, fontsize="small")
    axes.invert_yaxis()
    kinds = sorted({row.kind for row in bars.values()})
    axes.set_title(f"{rows[0].case} ({', '.join(kinds)})", loc="left", fontsize="medium")
    axes.set_xlabel("milliseconds a batch")
    axes.spines[["top", "right"]].set_visible(False)
