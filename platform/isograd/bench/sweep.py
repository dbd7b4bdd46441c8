"""What a sweep costs beyond training: the time of its slots in which nothing trains, and the driver's own work.

A slot is a trial that may run at once; here one a CPU. All of a slot's time counts that is not training or testing:
starting its process, building networks, writing checkpoints, waiting for the next trial, and the end of the sweep when
one slot has nothing left to do.
"""

import os
import tempfile
import time
from collections.abc import Sequence

from rich.console import Console

from isograd.bench.bench import BENCHES
from isograd.bench.rows import Row
from isograd.tune.request import parse
from isograd.tune.results import outcome_of
from isograd.tune.sweep import Sweep, begin

_NUM_TRIALS, _QUICK_TRIALS = 64, 16
_SHORT = ("model.width=8", "train.epochs=4", "lr_schedule.warmup_epochs=1", "executor.device=cpu")
_CASES = {"reused actors": "tune.reuse_actors=true", "new actors": "tune.reuse_actors=false"}


@BENCHES.register("sweep")
def bench(quick: bool, overrides: Sequence[str]) -> list[Row]:
    """Measures a sweep of short trials, with actors that are reused and, unless quick, with new ones; the overrides are
    of `isograd tune`."""
    num_trials, cases = (_QUICK_TRIALS, [*_CASES][:1]) if quick else (_NUM_TRIALS, [*_CASES])
    return [row for name in cases for row in _sweep(name, num_trials, [_CASES[name], *overrides])]


def _sweep(name: str, num_trials: int, items: Sequence[str]) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="isograd-sweep-") as folder:
        options = [f"tune.folder={folder}", f"tune.num_trials={num_trials}", "tune.scheduler=none", *_SHORT, *items]
        request = parse("dgl", options)
        started_s, started_work_s = time.perf_counter(), time.process_time()
        sweep = begin(request, Console(quiet=True))
        wall_s, work_s = time.perf_counter() - started_s, time.process_time() - started_work_s
        return _list_rows(f"{num_trials} trials of 4 epochs, {name}", sweep, wall_s, work_s)


def _list_rows(case: str, sweep: Sweep, wall_s: float, work_s: float) -> list[Row]:
    num_slots = len(os.sched_getaffinity(0))
    outcomes = [outcome for trial in sweep.study.trials if (outcome := outcome_of(trial)) is not None]
    train_s = sum(outcome.metrics["train_s"] for outcome in outcomes)
    inside_s = sum(outcome.metrics["wall_s"] for outcome in outcomes)
    figures = [
        ("sweep", wall_s, "s"),
        ("training, all slots", train_s, "s"),
        ("overhead a trial, all of its slot's time", (num_slots * wall_s - train_s) / len(outcomes), "s"),
        ("of it in the trial itself", (inside_s - train_s) / len(outcomes), "s"),
        ("controller: processor time of Tune's loop", 100 * sweep.controller_s / sweep.wall_s, "% of the sweep"),
        ("driver's processor time, start, checks and all of Ray's threads", 100 * work_s / wall_s, "% of the sweep"),
    ]
    return [Row(case, metric, value, unit) for metric, value, unit in figures]
