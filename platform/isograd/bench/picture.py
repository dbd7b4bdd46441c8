"""A picture of a benchmark's periods: a panel for each case, a bar for each schedule, modelled ideals as marks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from isograd.bench.rows import Row

_PERIOD, _IDEAL = "period, ", "ideal period, "
_OURS, _OTHERS = "#0072B2", "#999999"


@dataclass(frozen=True)
class Panel:
    """What is drawn of one case.

    Attributes:
        title: The case and how it was had.
        bars: Names and milliseconds.
        ideals: Milliseconds by name, without communication.
    """

    title: str
    bars: tuple[tuple[str, float], ...]
    ideals: dict[str, float]


def panels(rows: Sequence[Row]) -> list[Panel]:
    """Returns a panel for each case that has periods."""
    found = []
    for case in dict.fromkeys(row.case for row in rows):
        own = [row for row in rows if row.case == case]
        bars = [(row.metric.removeprefix(_PERIOD), row.value) for row in own if row.metric.startswith(_PERIOD)]
        ideals = {row.metric.removeprefix(_IDEAL): row.value for row in own if row.metric.startswith(_IDEAL)}
        kinds = {row.kind for row in own if row.metric.startswith(_PERIOD)}
        if bars:
            found.append(Panel(f"{case} ({', '.join(sorted(kinds))})", tuple(bars), ideals))
    return found


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draws all panels, one below the other."""
    from matplotlib.figure import Figure

    found = panels(rows)
    heights = [1 + len(panel.bars) for panel in found]
    figure = Figure(figsize=(9, 0.22 * sum(heights) + 0.8 * len(found)), layout="constrained")
    axes = figure.subplots(len(found), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, panel in zip(axes, found, strict=True):
        names = [name for name, _ in panel.bars]
        values = [value for _, value in panel.bars]
        colours = [_OURS if name == "PPLL" else _OTHERS for name in names]
        axis.barh(range(len(names)), values, color=colours)
        marked = [(panel.ideals[name], place) for place, name in enumerate(names) if name in panel.ideals]
        if marked:
            axis.plot(
                *zip(*marked, strict=True), "|", color="black", markersize=9, label="without communication (modelled)"
            )
            axis.legend(frameon=False, loc="lower right", fontsize="small")
        for place, value in enumerate(values):
            axis.text(value, place, f" {value:,.0f}", va="center", fontsize="small")
        axis.set_yticks(range(len(names)), names, fontsize="small")
        axis.invert_yaxis()
        axis.set_title(panel.title, loc="left", fontsize="medium")
        axis.set_xlabel("milliseconds a batch")
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
