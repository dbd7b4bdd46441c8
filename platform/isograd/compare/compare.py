"""`isograd compare`: trains entries under one rule, or reads finished runs, and writes the comparison down."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from isograd.compare import planning, plots, tables
from isograd.compare.arguments import Request, choose_baseline
from isograd.compare.budget import Budget, assign_epochs
from isograd.compare.comparison import Comparison, Entry, Failure, check_one_score, choose_split
from isograd.compare.finished import Group, read_groups
from isograd.compare.isolated import run_apart
from isograd.compare.notes import notes
from isograd.compare.planning import Planned
from isograd.display.run import describe
from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig, TrainConfig
from isograd.errors import IsogradError
from isograd.planning.contender import saved_bytes_per_sample
from isograd.run.experiment import execute, prepare
from isograd.studies.records import check_one_data_set, is_finished, read_run
from isograd.system.console import say, wide_console
from isograd.system.files import write_atomically
from isograd.system.lock import held


def compare(request: Request, console: Console) -> Comparison:
    """Makes the comparison, prints its table, and writes its files into ``request.output``.

    Raises:
        IsogradError: What is asked for cannot be compared; nothing has been trained. A run that fails later is in the
            comparison as a failure.
    """
    if request.runs:
        planning.check_output(request.output)
        comparison = compare_finished(request.runs, request.baseline, request.command)
    else:
        comparison = _train_all(request, console)
    remarks, content = notes(comparison), tables.table(comparison)
    request.output.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("comparison.json", json.dumps(comparison.to_json(remarks), indent=2) + "\n"),
        ("table.md", tables.markdown(content, remarks, comparison.command)),
        ("table.tex", tables.latex(content, remarks, comparison.command, comparison.hardware)),
    ):
        write_atomically(request.output / name, text)
    plots.draw(plots.picture(comparison), request.output / "learning_curves.png")
    say(console, tables.render(content, remarks))
    return comparison


def compare_finished(paths: Sequence[Path], baseline: str | None = None, command: str = "") -> Comparison:
    """Compares runs and trials as they were trained.

    Args:
        paths: Folders of finished runs, and trials of studies, ``STUDY/TRIAL``.
        baseline: Label of the entry that others are measured against; None: the first.
        command: The command line, for the record.

    Raises:
        IsogradError: One of them cannot be read, or cannot be compared.
    """
    groups = read_groups(paths)
    label = choose_baseline([group.label for group in groups], baseline)
    score = check_one_score({group.label: run.record.score for group in groups for run in group.runs})
    return Comparison(
        command,
        "Finished runs, as they were trained.",
        "Each run was timed when it was made",
        label,
        tuple(map(_make_entry, groups)),
        score,
        choose_split([run for group in groups for run in group.runs]),
    )


def _make_entry(group: Group) -> Entry:
    config = group.runs[0].config
    with planning.naming(group.label):
        modules = Blueprint(config).check()
    runs = tuple(sorted(group.runs, key=lambda run: run.seed))
    auxiliary, saved_bytes = planning.count_auxiliary(modules), saved_bytes_per_sample(config)
    return Entry(group.label, config, len(modules), auxiliary, saved_bytes, runs, remarks=group.remarks)


def _train_all(request: Request, console: Console) -> Comparison:
    entries = planning.plan(request)
    budget = Budget(entries, _describe_equal_epochs(entries[0].config.train), {})
    if request.rule == "device-seconds":
        say(console, f"timing {len(entries)} entries")
        budget = assign_epochs(entries, request)
    planning.check_folders(budget.entries)
    failures = _run_all(request, budget, console)
    made = tuple(_read_entry(entry, failures[entry.label]) for entry in budget.entries)
    return Comparison(
        request.command,
        budget.rule,
        "Runs were timed one after another on this machine, each in a process of its own",
        str(request.baseline),
        made,
        entries[0].score,
        choose_split([run for entry in made for run in entry.runs]),
    )


def _describe_equal_epochs(train: TrainConfig) -> str:
    limit = f", at most {train.max_steps} steps," if train.max_steps else ""
    return f"Equal epochs: {train.epochs}{limit} for every entry."


def _run_all(request: Request, budget: Budget, console: Console) -> dict[str, list[Failure]]:
    """Makes all runs that are not there yet; seed by seed, so that an interrupted comparison has whole pairs."""
    runs = [(seed, entry) for seed in request.seeds for entry in budget.entries]
    failures: dict[str, list[Failure]] = {entry.label: [] for entry in budget.entries}
    for number, (seed, entry) in enumerate(runs, start=1):
        is_there = is_finished(planning.run_folder(entry.configs[seed]))
        before = " (finished before)" if is_there else ""
        say(console, f"run {number} of {len(runs)}: {entry.label}, seed {seed}{before}")
        if is_there:
            continue
        reason = budget.failures.get(entry.label) or _run(entry.configs[seed])
        if reason is not None:
            say(console, f"failed: {reason}")
            failures[entry.label].append(Failure(seed, reason.partition(". ")[0]))
    return failures


def _run(config: RunConfig) -> str | None:
    """Makes a run. Returns why it failed, or None."""
    folder = planning.run_folder(config)
    try:
        with held(folder):
            shutil.rmtree(folder, ignore_errors=True)  # what an interrupted comparison left
        run_apart(train, config)  # which holds it again
    except IsogradError as error:
        return error.what
    return None


def train(config: RunConfig) -> None:
    """Makes one run, with its progress on the terminal. Raises IsogradError."""
    console = wide_console()
    prepared = prepare(config)
    say(console, describe(prepared))
    execute(prepared, console)


def _read_entry(entry: Planned, failures: Sequence[Failure]) -> Entry:
    folders = [planning.run_folder(config) for config in entry.configs.values()]
    runs = tuple(read_run(folder) for folder in folders if is_finished(folder))
    check_one_data_set(runs)
    saved_bytes, config = saved_bytes_per_sample(entry.config), entry.config
    modules, auxiliary = entry.num_modules, entry.auxiliary
    return Entry(entry.label, config, modules, auxiliary, saved_bytes, runs, tuple(failures), entry.remarks)
