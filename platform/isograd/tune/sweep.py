"""`isograd tune`: a study's trials on Ray Tune, until there is nothing left to try."""

import itertools
import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from rich.console import Console

from isograd.cluster.loopback import prefer_loopback
from isograd.display.measures import SCORE, Measure
from isograd.engine.config import RunConfig
from isograd.errors import ConfigError
from isograd.local.optimizer import each_lr
from isograd.system.console import clock, say
from isograd.system.lock import held
from isograd.system.provenance import provenance
from isograd.system.trouble import trouble_of
from isograd.tune.ground import flatten_options
from isograd.tune.judge import read_scores
from isograd.tune.proposer import Admit, check_request
from isograd.tune.request import Request, move_request, read_request, write_request
from isograd.tune.results import Assignment, EpochRecords, Outcome, outcome_of, read_records
from isograd.tune.study import Study, check_free, check_goes_on, create_study, open_study
from isograd.tune.table import write_table

if TYPE_CHECKING:
    from isograd.tune.trial import TrialRoom

_TUNE_FOLDER = "tune"  # Tune's own files, of no use once the sweep has ended
# Tune's tables and its files a trial would say again what we say and keep; a trial that fails reports no metric.
_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "1",
}
_RATE = "optimizer.lr"


@dataclass(frozen=True)
class Sweep:
    """A sweep that has ended.

    Attributes:
        study: With what came of its trials.
        wall_s: From its first proposal to its last result.
        controller_s: Processor time that Tune's loop took of it, with searcher, storage and records.
    """

    study: Study
    wall_s: float
    controller_s: float


def begin(request: Request, console: Console) -> Sweep:
    """Begins a study, and tries all that it is to try.

    Raises:
        IsogradError: The space does not fit the runs, the cluster can never hold a trial, the study exists, or its
            storage cannot be used. What has been tried until then is kept.
    """
    check_request(request)
    with _working(request) as stack:
        check_free(request)
        room, admit = _connect(stack, request.base)
        study = create_study(request)
        study.admit = admit
        return _search(study, room, console)


def resume(folder: Path, extend: int, console: Console, overrides: Sequence[str] = ()) -> Sweep:
    """Goes on with a study.

    Args:
        folder: The study's.
        extend: How many more configurations it is to try.
        console: For progress.
        overrides: Of executor, cluster and checkpoints, from now on.

    Raises:
        IsogradError: There is no such study, its storage cannot be used, or an override would change what its trials
            compute.
    """
    if extend < 0:
        raise ConfigError(
            f"--extend {extend} would take trials away", "What has been tried is kept", "Use --extend 8, for example."
        )
    request = move_request(read_request(folder), overrides)
    check_goes_on(request)
    with _working(request) as stack:
        study, room = open_study(request), None
        if study.num_left + extend:
            room, study.admit = _connect(stack, request.base)
        if overrides:
            write_request(request)
        if extend:
            study.extend(extend)
        return _search(study, room, console)


@contextmanager
def _working(request: Request) -> Iterator[ExitStack]:
    """Works in a study's folder, alone; what is entered into the stack is left before the folder is."""
    if request.base.cluster.address is None:
        prefer_loopback()
    with held(request.folder), _quiet(), ExitStack() as stack:
        yield stack


@contextmanager
def _quiet() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _QUIET}
    os.environ.update(_QUIET)
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.air", "optuna")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _connect(stack: ExitStack, config: RunConfig) -> tuple["TrialRoom", Admit]:
    """Connects to the cluster. Returns how many trials it has room for, and what refuses those it can never hold."""
    from isograd.cluster.connection import connected
    from isograd.tune.trial import admitting, check_room

    streams = config.data.streams
    stack.enter_context(connected(config.cluster, extra_cpus=1 if streams else 0))
    return check_room(config), admitting(config)


def _search(study: Study, room: "TrialRoom | None", console: Console) -> Sweep:
    """Tries what a study has left; without room, as there is no cluster, that is nothing. Writes its table."""
    for line in (_heading(study), *remark(study.request)):
        say(console, line)
    started_s, started_work_s = time.perf_counter(), time.thread_time()
    try:
        if room is None:
            say(console, f"nothing is left to try; `isograd resume {study.request.folder} --extend 8` tries 8 more")
        elif study.num_left:
            with _resumable(study, console):
                _fit(study, room, console)
        if study.is_exhausted:
            say(console, f"all that the space has was tried: {study.num_left} trials fewer than asked for")
        return Sweep(study, time.perf_counter() - started_s, time.thread_time() - started_work_s)
    finally:
        _write_table(study, console)


def _write_table(study: Study, console: Console) -> None:
    """Writes the study's table; where the machine does not let it, the storage has all of it still."""
    try:
        write_table(study, provenance(study.request.sweep.sampler_seed))
    except Exception as error:
        trouble = trouble_of(error)
        if trouble is None:
            raise
        say(console, f"the table of trials could not be written: {trouble.what}")


@contextmanager
def _resumable(study: Study, console: Console) -> Iterator[None]:
    """Says how a sweep goes on that is interrupted, or that the machine has stopped."""
    folder = study.request.folder
    try:
        yield
    except Exception as error:
        trouble = trouble_of(error)
        if trouble is None:
            raise
        raise type(trouble)(
            trouble.what,
            "It is no configuration's fault: the search has stopped, and books it on none",
            f"Mend it ({trouble.mend.partition(':')[0]}), then use `isograd resume {folder}`, which tries again the "
            "trials that were under way.",
        ) from error
    except KeyboardInterrupt:
        say(console, f"`isograd resume {folder}` goes on with it")
        say(console, f"`isograd report {folder}` shows what it has found until now")
        raise


def _heading(study: Study) -> str:
    request, config = study.request, study.request.sweep
    seeds = f"{len(config.seeds)} seeds" if len(config.seeds) > 1 else f"seed {config.seeds[0]}"
    return (
        f"{request.name}: {len(request.file.space.parameters)} parameters of {request.file.name}, "
        f"{study.num_left} of {study.num_trials} trials left, {_count(request.num_epochs, 'epoch')}, {seeds}, "
        f"{config.sampler_name}, {config.scheduler}, {', '.join(map(_aim, request.objectives.values()))}"
    )


def _aim(measure: Measure) -> str:
    return f"{'maximising' if measure.higher_is_better else 'minimising'} {measure.label}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def remark(request: Request) -> Iterator[str]:
    """Yields a line for each thing that has no effect, though nothing is wrong with it: a learning rate that no epoch
    depends on, a scheduler that never stops a trial.
    """
    sweep, schedule, train, epochs = request.sweep, request.base.lr_schedule, request.base.train, request.num_epochs
    low, high = (each_lr(schedule, peak, train.epochs, train.max_steps) for peak in (1.0, 2.0))
    matters = any(one != other for one, other in zip(low, high, strict=True))
    if _searches_rate(request) and not matters:
        yield (
            f"note: {_RATE} is searched, but has no effect in {_count(epochs, 'epoch')}: "
            f"lr_schedule={schedule.name} never comes to it. Use more epochs, or lr_schedule=cosine."
        )
    if sweep.scheduler == "asha" and sweep.grace_epochs > max(1, epochs - 1):
        yield (
            f"note: asha stops no trial: it waits for tune.grace_epochs={sweep.grace_epochs} of "
            f"{_count(epochs, 'epoch')}. Use fewer, or tune.scheduler=none."
        )


def _searches_rate(request: Request) -> bool:
    """Whether trials differ in their peak learning rate, under one schedule."""
    parameters, options = request.file.space.parameters, flatten_options(request.base)
    if any(option.partition(".")[0] == "lr_schedule" for parameter in parameters for option in parameter.sets):
        return False
    return any(
        _RATE in parameter.sets and all(options.get(name) in values for name, values in parameter.when.items())
        for parameter in parameters
    )


def _fit(study: Study, room: "TrialRoom", console: Console) -> None:
    from ray import tune

    from isograd.cluster.death import is_settled
    from isograd.tune.search import Losses, StudySearch, Watch, make_scheduler, report_as_actors
    from isograd.tune.trial import Trial, resources

    request = study.request
    config, num_epochs = request.sweep, request.base.train.epochs  # at most: a trial ends with its last step
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(min(room.num_pending, config.max_concurrent or room.num_pending))
    progress = _Progress(study, console)
    with EpochRecords(request.folder) as records:
        how = {"seeds": config.seeds, "legs": config.stops(num_epochs), "num_retries": config.num_retries}
        losses = Losses(config.num_lost_retries, is_settled)
        search = StudySearch(study, how, losses, records.take, progress.end)
        watch = Watch(search)
        tuner = tune.Tuner(
            tune.with_resources(Trial, resources),
            tune_config=tune.TuneConfig(
                search_alg=search,
                scheduler=make_scheduler(config, request.measures[SCORE], num_epochs, _earlier_scores(study)),
                num_samples=-1,  # the search says when there is nothing left: a trial that was lost comes again
                max_concurrent_trials=config.max_concurrent or room.most_concurrent,
                reuse_actors=config.reuses_actors,
            ),
            run_config=tune.RunConfig(
                name=_TUNE_FOLDER,
                storage_path=str(request.folder),
                verbose=0,
                stop=watch,
                callbacks=[watch],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        try:
            with report_as_actors():
                tuner.fit()
        except Exception:
            if search.failure is None:
                raise
        finally:
            shutil.rmtree(request.folder / _TUNE_FOLDER, ignore_errors=True)
        if search.failure is not None:
            raise search.failure


def _earlier_scores(study: Study) -> dict[int, dict[int, float]]:
    """Returns scores by epoch of trials that have ended: they set the bar that later ones have to pass."""
    ended = {trial.number for trial in study.trials if outcome_of(trial) is not None}
    num_seeds, means = len(study.request.sweep.seeds), {}
    for trial, records in itertools.groupby(read_records(study.request.folder), itemgetter("trial")):
        by_epoch: dict[int, list[float]] = {}
        for (_, epoch), score in read_scores(records, study.request.score).items():
            by_epoch.setdefault(epoch, []).append(score)
        if trial in ended:
            means[trial] = {epoch: fmean(scores) for epoch, scores in by_epoch.items() if len(scores) == num_seeds}
    return means


class _Progress:
    """Drops the checkpoints of every trial that ends, and prints how it went, the best so far, and the time left."""

    def __init__(self, study: Study, console: Console) -> None:
        self._study, self._console, self._best = study, console, study.find_best()
        self._num_left, self._num_ended = study.num_left, 0
        self._started_s = time.monotonic()

    def end(self, assignment: Assignment, outcome: Outcome) -> None:
        """Takes the end of a trial."""
        if not self._study.request.sweep.keep_checkpoints:
            for path in self._study.request.trial_folder(assignment.number).glob("seed-*/checkpoints"):
                shutil.rmtree(path, ignore_errors=True)
        self._num_ended += 1
        self._num_left -= 1
        if outcome.kind == "complete":
            self._best.take(assignment.number, outcome.metrics)
        left_s = (time.monotonic() - self._started_s) / self._num_ended * self._num_left
        num_trials = self._study.num_trials
        done = f"{num_trials - self._num_left:>{len(str(num_trials))}}/{num_trials}"
        trial = f"trial {assignment.number:<3} {outcome.kind:<8}"
        say(self._console, f"{done}  {trial}  {self._explain(outcome)}  | {self._best} | {clock(left_s)} left")

    def _explain(self, outcome: Outcome) -> str:
        if outcome.reason:
            return outcome.reason
        names, measures = dict.fromkeys((SCORE, *self._best.objectives)), self._study.request.measures
        figures = ", ".join(measures[name].text(outcome.metrics[name]) for name in names)
        return f"{figures} after epoch {outcome.epoch}, {outcome.metrics['wall_s']:.1f} s"
