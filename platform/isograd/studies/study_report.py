"""A study as a page of HTML in one file, which opens offline, and its pictures as PNG files beside it."""

import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any

from isograd.errors import RunFolderError, StudyError
from isograd.studies import page
from isograd.studies.canvas import png
from isograd.studies.page import Cell
from isograd.studies.study import load_study
from isograd.studies.study_pictures import PICTURES, StudyPicture
from isograd.studies.study_table import KINDS, StudyTable, Trial
from isograd.system.console import say, wide_console
from isograd.system.files import write_atomically
from isograd.system.passwords import hide_password, hide_passwords
from isograd.tune.judge import show_metric

REPORT = "report.html"
_METRICS = {
    "test_error": "test error",
    "best_test_error": "that of the best epoch",
    "epoch_s": "time of an epoch",
    "peak_bytes": "peak memory",
}

Say = Callable[[str], None]


def _say(line: str) -> None:
    say(wide_console(stderr=True), line)


def write_report(folder: Path, say: Say = _say) -> Path:
    """Writes ``report.html`` and the PNG files into a study's folder, each wholly or not at all.

    Args:
        folder: The study's; of its files, the table alone is read.
        say: Takes a line for each picture that could not be drawn, and the page has the reason in its place; by
            default it goes to standard error.

    Returns:
        The page's path.

    Raises:
        StudyError: There is no table, or it cannot be read.
        RunFolderError: The folder cannot be written to.
    """
    study = load_study(folder)
    target = study.folder / REPORT
    try:
        write_atomically(target, page.page(f"Study {study.name}", _parts(study, say)))
    except OSError as error:
        raise RunFolderError(
            f"cannot write to {study.folder} ({error.strerror or error})",
            "The report and its pictures go beside the study's table",
            "Use a copy of the study in a folder that you may write to.",
        ) from error
    return target


def _parts(study: StudyTable, say: Say) -> Iterator[str]:
    yield page.heading("Outcome")
    yield from _outcome(study)
    for picture in PICTURES:
        yield page.heading(picture.title)
        yield _pictured(study, picture, say)
    yield page.heading("What was searched")
    yield from _searched(study)
    yield page.heading("All trials")
    yield from _trials(study)
    yield page.heading("Provenance")
    yield page.table((), [(Cell(name), Cell(text)) for name, text in _provenance(study)])


def _outcome(study: StudyTable) -> Iterator[str]:
    counts = Counter(trial.kind for trial in study.trials)
    said = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
    yield page.paragraph(f"{len(study.trials)} of {study.num_trials} trials: {said or 'none yet'}.")
    reasons = Counter((trial.kind, hide_passwords(trial.reason)) for trial in study.trials if trial.reason)
    if reasons:
        yield page.listing(f"{count} {kind}: {reason}" for (kind, reason), count in reasons.most_common())
    front = study.front()
    if not front:
        yield page.paragraph(
            "No trial is complete: there is no best one, and nothing stands beside others.", missing=True
        )
        return
    several = len(study.objectives) > 1
    yield page.paragraph(
        f"The front of {', '.join(study.objectives)}: {len(front)} trials that no other complete one beats in all."
        if several
        else f"The best complete trial. It was chosen by the {study.objectives[0]} that it is shown with, which "
        "flatters it: other seeds will come out a little worse."
    )
    yield from (part for trial in front for part in _chosen(study, trial))


def _chosen(study: StudyTable, trial: Trial) -> Iterator[str]:
    figures = [f"{label} {show_metric(name, trial.metrics[name])}" for name, label in _METRICS.items()]
    errors = trial.test_errors.get(trial.epoch)
    if errors is not None and errors.deviation is not None:
        figures[0] += f" (± {100 * errors.deviation:.2f} over {errors.num_values} seeds)"
    yield f"<p><b>Trial {trial.number}</b>: {escape(', '.join(figures))}</p>"
    yield page.listing(f"{name} = {value_text(value)}" for name, value in trial.values.items())
    yield page.code(f"isograd train --from-trial {shlex.quote(str(study.path / str(trial.number)))}")


def _pictured(study: StudyTable, picture: StudyPicture, say: Say) -> str:
    """Returns a picture, or in its place why there is none; another one's failure would cost all the rest."""
    path = study.folder / f"{picture.name}.png"
    try:
        content = png(picture.draw(study))
    except StudyError as error:
        path.unlink(missing_ok=True)  # of an earlier report
        return page.paragraph(f"Not drawn: {error.what}. {error.why}.", missing=True)
    except Exception as error:
        reason = f"{path.name} could not be drawn ({type(error).__name__}: {error})"
        say(reason)
        return page.paragraph(f"{reason}.", missing=True)
    write_atomically(path, content)
    return page.picture(content, picture.caption(study))


def _searched(study: StudyTable) -> Iterator[str]:
    facts = {
        "search space": study.space,
        "objectives": f"{', '.join(study.objectives)}; smaller is better",
        "seeds": f"{', '.join(map(str, study.seeds))}; objectives are means over them, of memory the largest",
        "epochs": str(study.num_epochs),
        "sampler": study.sampler,
        "scheduler": study.scheduler,
        "set on the command line": " ".join(map(hide_password, study.items)) or "nothing",
    }
    yield page.table((), [(Cell(name), Cell(text)) for name, text in facts.items()])
    rows = [
        (Cell(parameter.name), Cell(str(parameter.distribution)), Cell(_conditions(parameter.when)))
        for parameter in study.parameters
    ]
    yield page.table(("parameter", "values", "only where"), rows)


def _conditions(when: Any) -> str:
    return " and ".join(f"{name} is {' or '.join(map(value_text, values))}" for name, values in when.items())


def _trials(study: StudyTable) -> Iterator[str]:
    yield page.paragraph(
        "A click on a column's head sorts. Errors of trials that were stopped early are those at that epoch."
    )
    names = [parameter.name for parameter in study.parameters]
    header = ["trial", "outcome", "epochs", *_METRICS.values(), *names, "reason"]
    yield page.table(header, (_row(trial, names) for trial in study.trials), sortable=True)


def _row(trial: Trial, names: list[str]) -> list[Cell]:
    metrics = (_metric(name, trial.metrics.get(name)) for name in _METRICS)
    values = (_value(trial.values.get(name)) for name in names)
    head = (Cell(str(trial.number), trial.number), Cell(trial.kind), Cell(str(trial.epoch), trial.epoch))
    return [*head, *metrics, *values, Cell(hide_passwords(trial.reason))]


def _metric(name: str, value: float | None) -> Cell:
    return Cell("") if value is None else Cell(show_metric(name, value), value)


def _value(value: Any) -> Cell:
    return Cell(value_text(value), value if isinstance(value, int | float) else None)


def value_text(value: Any) -> str:
    """Returns the value of a parameter as text; nothing for one that a trial does not have."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else ", ".join(value) if isinstance(value, tuple) else str(value)


def _provenance(study: StudyTable) -> Iterator[tuple[str, str]]:
    found = study.provenance
    changes = ", with uncommitted changes" if found.get("uncommitted_changes") else ""
    machines = {run.hardware for trial in study.trials for run in trial.runs} | {str(found.get("hardware"))}
    yield "last command", shlex.join(["isograd", *map(hide_password, found.get("command", [])[1:])])
    yield "commit", f"{found.get('commit')}{changes}"
    yield "hardware", "; ".join(sorted(machines))
    yield "hosts", ", ".join(sorted({trial.host for trial in study.trials if trial.host})) or "not recorded"
    yield "Python", str(found.get("python"))
    yield "packages", ", ".join(f"{name} {version}" for name, version in found.get("packages", {}).items())
    yield "table", str(study.file)
