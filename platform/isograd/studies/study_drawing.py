"""The pictures of a study: drawing what :mod:`isograd.studies.study_plots` says."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from isograd.studies.canvas import COLOURS, GREY, new_figure, plain
from isograd.studies.curves import Curve, band
from isograd.studies.importance import Importances
from isograd.studies.metrics import MEASURES
from isograd.studies.study_plots import Front, FrontPoint, History, LearningCurves, TrialCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BAR_HEIGHT = 0.3  # inches


def draw_histories(contents: Sequence[History]) -> "Figure":
    """Draws the history of each objective, side by side."""
    figure = new_figure()
    for axes, content in zip(_panels(figure, len(contents)), contents, strict=True):
        _draw_history(axes, content)
    _shared_legend(figure)
    return figure


def draw_learning_curves(content: LearningCurves) -> "Figure":
    """Draws all curves; those that stand out in colour, with the spread over seeds."""
    figure = new_figure()
    (axes,) = _panels(figure, 1)
    for curve in sorted(content.curves, key=_depth):
        _draw_curve(axes, curve)
    axes.set_xlim(left=0.8)
    axes.set_ylim(bottom=0)
    _whole_numbers(axes)
    _finish(axes, "epoch", MEASURES["test_error"].label)
    num_seeds = content.num_seeds
    axes.set_title(f"mean ± standard deviation over {num_seeds} seeds" if num_seeds > 1 else "one seed", fontsize=10)
    _shared_legend(figure)
    return figure


def draw_fronts(contents: Sequence[Front]) -> "Figure":
    """Draws the fronts side by side."""
    figure = new_figure()
    for axes, content in zip(_panels(figure, len(contents)), contents, strict=True):
        _draw_front(axes, content)
    _shared_legend(figure)
    return figure


def draw_importances(content: Importances) -> "Figure":
    """Draws a bar a parameter, the most important on top."""
    figure = new_figure(height=max(2.5, 1.2 + _BAR_HEIGHT * len(content.values)))
    (axes,) = _panels(figure, 1)
    names = [plain(each.name) for each in content.values]
    deviations = [each.deviation for each in content.values]
    axes.barh(names, [each.mean for each in content.values], xerr=deviations, color=COLOURS[0], ecolor="#444444")
    axes.axvline(0, color="#444444", linewidth=0.8)
    axes.invert_yaxis()
    _finish(axes, "fall of the forest's R² when the parameter's values are shuffled among trials", "")
    axes.grid(visible=False, axis="y")
    outcome = MEASURES[content.outcome].label.partition(",")[0]
    axes.set_title(f"{outcome}, {content.num_trials} complete trials, out-of-bag R² {content.r2:.2f}", fontsize=10)
    return figure


def _panels(figure: "Figure", count: int) -> "list[Axes]":
    return list(figure.subplots(1, count, squeeze=False)[0])


def _draw_history(axes: "Axes", content: History) -> None:
    for is_complete, style in ((False, _STOPPED), (True, _COMPLETE)):
        found = [mark for mark in content.marks if mark.is_complete == is_complete]
        if found:
            axes.plot([mark.trial for mark in found], [mark.value for mark in found], **style)
    if content.best:
        trials, values = zip(*content.best, strict=True)
        axes.step(trials, values, where="post", color=COLOURS[1], linewidth=2, label="best so far")
    for number, trial in enumerate(content.without):
        axes.axvline(
            trial, color=COLOURS[3], linestyle=":", linewidth=1, label="failed or lost" if not number else None
        )
    axes.set_ylim(bottom=0 if content.name.endswith("_error") else None)
    _whole_numbers(axes)
    _finish(axes, "trial", MEASURES[content.name].label)


_STOPPED: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 5,
    "markerfacecolor": "none",
    "color": GREY,
    "label": "stopped early: what it had then",
}
_COMPLETE: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 6,
    "color": COLOURS[0],
    "label": "complete",
}


_OTHER_CURVE: dict[str, Any] = {"color": "#555555", "linewidth": 1.1, "label": "complete"}
_STOPPED_CURVE: dict[str, Any] = {
    "color": GREY,
    "linewidth": 0.8,
    "marker": "x",
    "markevery": [-1],
    "markersize": 6,
    "label": "stopped early, at x",
}


def _depth(curve: TrialCurve) -> float:
    """What is drawn later lies on top: the best last."""
    return curve.is_complete - 2.0 if curve.rank is None else 1.0 / (1 + curve.rank)


def _draw_curve(axes: "Axes", curve: TrialCurve) -> None:
    means = [error.mean for error in curve.errors]
    if curve.rank is None:
        axes.plot(curve.epochs, means, **(_OTHER_CURVE if curve.is_complete else _STOPPED_CURVE))
        return
    colour = COLOURS[curve.rank % len(COLOURS)]
    label = f"trial {curve.trial}: {means[-1]:.2f} %"
    axes.plot(curve.epochs, means, color=colour, linewidth=2, marker="o", markersize=4, label=label)
    low, high = band(Curve("", curve.epochs, curve.errors))
    axes.fill_between(curve.epochs, low, high, color=colour, alpha=0.15, linewidth=0)


def _draw_front(axes: "Axes", content: Front) -> None:
    others = [point for point in content.points if not point.is_on_front]
    if others:
        axes.plot(*_xy(others), "o", color=GREY, markersize=5, label="complete trial")
    axes.step(*_xy(content.line), where="post", color=COLOURS[1], linewidth=1, alpha=0.7)
    axes.plot(*_xy(content.line), "o", color=COLOURS[1], markersize=7, label="no other is better in both")
    chosen = [point for point in content.points if point.is_chosen]
    label = "on the front of all objectives" if len(chosen) > 1 else "the best trial"
    axes.plot(*_xy(chosen), "o", markerfacecolor="none", color="#000000", markersize=12, label=label)
    named = content.line if len(chosen) > 1 else (*content.line, *chosen)
    for point in {point.trial: point for point in named}.values():
        where = {"xytext": (-6, -6), "textcoords": "offset points", "ha": "right", "va": "top"}  # where no other lies
        axes.annotate(str(point.trial), (point.x, point.y), fontsize=9, **where)
    axes.margins(0.12)
    axes.locator_params(nbins=6)
    _finish(axes, MEASURES[content.x_name].label, MEASURES[content.y_name].label)


def _xy(points: Sequence[FrontPoint]) -> tuple[list[float], list[float]]:
    return [point.x for point in points], [point.y for point in points]


def _whole_numbers(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _finish(axes: "Axes", x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _shared_legend(figure: "Figure") -> None:
    """Puts each label once below the panels, what was drawn last, on top of others, first."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    ordered = list(reversed(found))
    if ordered:
        handles = [found[label] for label in ordered]
        figure.legend(handles, ordered, loc="outside lower center", ncols=len(ordered), frameon=False)
