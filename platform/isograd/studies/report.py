"""A study as a page of HTML in one file, which opens offline, and its pictures as PNG files beside it."""

import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any

from isograd.display.measures import BEST_SCORE, SCORE, TEST_SCORE
from isograd.errors import RunFolderError, StudyError
from isograd.studies.figures import make_png
from isograd.studies.page import Cell, make_heading, make_list, make_page, make_paragraph, make_picture, make_table
from isograd.studies.pictures import PICTURES, StudyPicture
from isograd.studies.reading import load_study
from isograd.studies.study import KINDS, StudyTable, Trial
from isograd.system.console import say, wide_console
from isograd.system.files import write_atomically
from isograd.system.passwords import hide_password, hide_passwords

REPORT = "report.html"
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
        write_atomically(target, make_page(f"Study {study.name}", _make_parts(study, say)))
    except OSError as error:
        raise RunFolderError(
            f"cannot write to {study.folder} ({error.strerror or error})",
            "The report and its pictures go beside the study's table",
            "Use a copy of the study in a folder that you may write to.",
        ) from error
    return target


def _make_parts(study: StudyTable, say: Say) -> Iterator[str]:
    yield make_heading("Outcome")
    yield from _make_outcome(study)
    for picture in PICTURES:
        yield make_heading(picture.title)
        yield _draw(study, picture, say)
    yield make_heading("What was searched")
    yield from _make_space(study)
    yield make_heading("All trials")
    yield from _make_trials(study)
    yield make_heading("Provenance")
    yield make_table((), _list_provenance(study))


def _name_metrics(study: StudyTable) -> dict[str, str]:
    """Returns the metrics that are shown, and what each is called."""
    names = {SCORE: study.measures[SCORE].label, BEST_SCORE: "that of the best epoch"}
    names |= {TEST_SCORE: study.measures[TEST_SCORE].label} if study.split != "test" else {}
    return names | {"epoch_s": "time of an epoch", "peak_bytes": "peak memory"}


def _make_outcome(study: StudyTable) -> Iterator[str]:
    counts = Counter(trial.kind for trial in study.trials)
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
    yield make_paragraph(f"{len(study.trials)} of {study.num_trials} trials: {kinds or 'none yet'}.")
    reasons = Counter((trial.kind, hide_passwords(trial.reason)) for trial in study.trials if trial.reason)
    if reasons:
        yield make_list(f"{count} {kind}: {reason}" for (kind, reason), count in reasons.most_common())
    front = study.front()
    if not front:
        text = "No trial is complete: there is no best one, and nothing stands beside others."
        yield make_paragraph(text, missing=True)
        return
    has_several = len(study.objectives) > 1
    objective = study.measures[study.objectives[0]].label
    unseen = "" if study.split == "test" else f" Its {study.measures[TEST_SCORE].label} chose nothing."
    yield make_paragraph(
        f"The front of {', '.join(study.objectives)}: {len(front)} trials that no other complete one beats in all."
        if has_several
        else f"The best complete trial. It was chosen by the {objective} that it is shown with, which flatters it: "
        f"other seeds will come out a little worse.{unseen}"
    )
    yield from (part for trial in front for part in _make_chosen(study, trial))


def _make_chosen(study: StudyTable, trial: Trial) -> Iterator[str]:
    names, measures = _name_metrics(study), study.measures
    figures = [f"{label} {measures[name].text(trial.metrics.get(name))}" for name, label in names.items()]
    scores = trial.scores.get(trial.epoch)
    if scores is not None and scores.deviation is not None:
        figures[0] += f" (± {measures[SCORE].number(scores.deviation)} over {scores.num_values} seeds)"
    yield f"<p><b>Trial {trial.number}</b>: {escape(', '.join(figures))}</p>"
    yield make_list(f"{name} = {_write(value)}" for name, value in trial.values.items())
    yield f"<pre>{escape(f'isograd train --from-trial {shlex.quote(str(study.path / str(trial.number)))}')}</pre>"


def _draw(study: StudyTable, picture: StudyPicture, say: Say) -> str:
    """Returns a picture, or in its place why there is none; another one's failure would cost all the rest."""
    path = study.folder / f"{picture.name}.png"
    try:
        content = make_png(picture.draw(study))
    except StudyError as error:
        path.unlink(missing_ok=True)  # of an earlier report
        return make_paragraph(f"Not drawn: {error.what}. {error.why}.", missing=True)
    except Exception as error:
        reason = f"{path.name} could not be drawn ({type(error).__name__}: {error})"
        say(reason)
        return make_paragraph(f"{reason}.", missing=True)
    write_atomically(path, content)
    return make_picture(content, picture.caption(study))


def _make_space(study: StudyTable) -> Iterator[str]:
    facts = {
        "search space": study.space,
        "objectives": ", ".join(f"{name} ({study.measures[name].better} is better)" for name in study.objectives),
        "score": study.measures[SCORE].axis,
        "seeds": f"{', '.join(map(str, study.seeds))}; objectives are means over them, of memory the largest",
        "epochs": str(study.num_epochs),
        "sampler": study.sampler,
        "scheduler": study.scheduler,
        "set on the command line": " ".join(map(hide_password, study.items)) or "nothing",
    }
    yield make_table((), facts.items())
    rows = [
        (
            parameter.name,
            str(parameter.distribution),
            " and ".join(f"{name} is {' or '.join(map(_write, values))}" for name, values in parameter.when.items()),
        )
        for parameter in study.parameters
    ]
    yield make_table(("parameter", "values", "only where"), rows)


def _make_trials(study: StudyTable) -> Iterator[str]:
    text = "A click on a column's head sorts. Scores of trials that were stopped early are those at that epoch."
    yield make_paragraph(text)
    names = [parameter.name for parameter in study.parameters]
    header = ["trial", "outcome", "epochs", *_name_metrics(study).values(), *names, "reason"]
    yield make_table(header, (_make_row(study, trial, names) for trial in study.trials), sortable=True)


def _make_row(study: StudyTable, trial: Trial, names: list[str]) -> list[Cell | str]:
    known, shown = trial.metrics, _name_metrics(study)
    metrics = (Cell(study.measures[name].text(known[name]), known[name]) if name in known else "" for name in shown)
    values = (trial.values.get(name) for name in names)
    cells = (Cell(_write(value), value) if isinstance(value, int | float) else _write(value) for value in values)
    number, epoch = (Cell(str(count), count) for count in (trial.number, trial.epoch))
    return [number, trial.kind, epoch, *metrics, *cells, hide_passwords(trial.reason)]


def _write(value: Any) -> str:
    """Returns the value of a parameter as text; nothing for one that a trial does not have."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else ", ".join(value) if isinstance(value, tuple) else str(value)


def _list_provenance(study: StudyTable) -> Iterator[tuple[str, str]]:
    record = study.provenance
    changes = ", with uncommitted changes" if record.get("uncommitted_changes") else ""
    machines = {run.hardware for trial in study.trials for run in trial.records.values() if run.hardware}
    machines.add(str(record.get("hardware")))
    yield "last command", shlex.join(["isograd", *map(hide_password, record.get("command", [])[1:])])
    yield "commit", f"{record.get('commit')}{changes}"
    yield "hardware", "; ".join(sorted(machines))
    yield "hosts", ", ".join(sorted({trial.host for trial in study.trials if trial.host})) or "not recorded"
    yield "Python", str(record.get("python"))
    yield "packages", ", ".join(f"{name} {version}" for name, version in record.get("packages", {}).items())
    yield "table", str(study.file)
