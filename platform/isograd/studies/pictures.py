"""All pictures of a study, each with a sentence that says how to read it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isograd.display.measures import SCORE
from isograd.errors import StudyError
from isograd.studies.curves import draw_learning_curves, learning_curves
from isograd.studies.fronts import draw_fronts, fronts
from isograd.studies.history import draw_histories, histories
from isograd.studies.importance import draw_importances, importances
from isograd.studies.parallel import draw_parallel_coordinates, parallel_coordinates
from isograd.studies.study import StudyTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class StudyPicture:
    """A picture that can be drawn of any study.

    Attributes:
        name: Of its file, without ending.
        title: Of its section.
        caption: How to read it.
        draw: Draws it; StudyError where the study has too little for it, which is no failure.
    """

    name: str
    title: str
    caption: Callable[[StudyTable], str]
    draw: Callable[[StudyTable], "Figure"]


def _draw_history(study: StudyTable) -> "Figure":
    _check(any(trial.metrics for trial in study.trials), "no trial has a result yet")
    return draw_histories(histories(study))


def _draw_curves(study: StudyTable) -> "Figure":
    content = learning_curves(study)
    _check(bool(content.curves), "no trial has trained an epoch with all its seeds")
    return draw_learning_curves(content)


def _draw_fronts(study: StudyTable) -> "Figure":
    _check(bool(study.complete), "no trial is complete, and only complete ones can be on a front")
    return draw_fronts(fronts(study))


def _draw_parallel(study: StudyTable) -> "Figure":
    _check(any(trial.metrics for trial in study.trials), "no trial has a result yet")
    return draw_parallel_coordinates(parallel_coordinates(study))


def _check(is_there: bool, reason: str) -> None:
    if not is_there:
        raise StudyError(reason, "There is nothing to draw", "Use `isograd resume` to go on with the study.")


def _explain_curves(study: StudyTable) -> str:
    num_seeds = len(study.seeds)
    over = f"mean over {num_seeds} seeds (shaded: one standard deviation)" if num_seeds > 1 else "of one seed"
    return (
        f"{study.measures[SCORE].title} after each epoch, {over}; trials that were stopped early end at the x, and "
        "a curve that crosses others late shows what stopping early may cost."
    )


def _explain_fronts(study: StudyTable) -> str:
    side = "above" if study.score.higher_is_better else "below"
    shared = (
        " Trials took over the processes of others, so on a CPU, where the peak is the process's so far, memory is no "
        "property of the trial alone: make peak_bytes an objective, or use tune.reuse_actors=false, to measure it."
    )
    return (
        f"Complete trials only; left and {side} is better. No trial lies left of the line or {side} it: its points "
        "are what to choose from. Trials that ran side by side slowed each other down."
        + (shared if study.reuses_processes else "")
    )


def _explain_importances(study: StudyTable) -> str:
    return (
        f"How much worse a random forest foretells the {study.measures[study.objectives[0]].label} of complete trials "
        "when one parameter's values are shuffled (lines: standard deviation over shuffles). The out-of-bag R² says "
        "what the forest is worth: near 1 it foretells trials that it has not seen, near 0 or below the bars mean "
        "nothing. Parameters that depend on each other share their importance."
    )


def _explain_parallel(study: StudyTable) -> str:
    return (
        f"A line is a trial, coloured by {study.measures[SCORE].label}; it passes each axis at its value, and has a "
        "gap where it does not have the parameter. Where dark lines meet, good trials agree; cuts are counted in units "
        "before them."
    )


_HISTORY = (
    "Each point is a trial, in the order in which they were drawn; the line is the best complete one so far: where "
    "it has been level for long, more trials of the same kind promise little."
)
PICTURES = (
    StudyPicture("history", "Course of the search", lambda study: _HISTORY, _draw_history),
    StudyPicture("learning_curves", "Learning curves", _explain_curves, _draw_curves),
    StudyPicture("front", "Score against time and memory", _explain_fronts, _draw_fronts),
    StudyPicture(
        "importances",
        "What the outcome depends on",
        _explain_importances,
        lambda study: draw_importances(importances(study, study.objectives[0])),
    ),
    StudyPicture("parallel_coordinates", "All parameters", _explain_parallel, _draw_parallel),
)
