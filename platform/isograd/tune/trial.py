"""A trial as Ray Tune runs it: an actor that trains one configuration leg by leg, and then another one.

All seeds of a trial train to one epoch before any of them goes on. So the mean over seeds is known at each epoch at
which a scheduler may stop the trial, and what a leg has trained is in the run folders: a trial that broke off goes on
from there, bit for bit.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import ray
from ray import tune

from isograd.cluster import placement
from isograd.cluster.last_words import leave_last_words, no_exit
from isograd.config.load import from_dict
from isograd.display.measures import SCORE, TEST_SCORE
from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig, fingerprint
from isograd.errors import (
    IsogradError,
    MemoryShortError,
    ProcessDiedError,
    RunFolderError,
    StageFailedError,
    StudyError,
)
from isograd.events.json_lines import AppendedLines, read_lines
from isograd.executors.executor import Opener, executor_of, layout_of
from isograd.executors.hosts import Hosts
from isograd.run import checkpoint
from isograd.run.experiment import Prepared, count_epochs, execute, prepare, prepare_resumed
from isograd.run.folder import RunFolder
from isograd.run.record import RunRecord
from isograd.run.stored_record import read_record
from isograd.system.lock import held
from isograd.system.trouble import trouble_of
from isograd.tune.judge import SPLIT, average_scores
from isograd.tune.results import SeedRun

RESULT, FAILED, TRAINED, LOST, TROUBLE = "leg", "failed", "trained", "lost", "trouble"

_PATIENCE_S = 30.0  # for the process of a trial that was lost, which may be slow to end
_LEGS = "legs.jsonl"
_LONGEST_REASON = 900  # characters; a death names the last words of a process and its log


@dataclass(frozen=True)
class Leg:
    """What a trial has come to after a leg.

    Attributes:
        epoch: The last one that is trained.
        is_complete: Whether the run ends there.
        metrics: At that epoch: means over seeds; of memory the largest, of training time the sum.
        records: One a seed, epoch, split and module of the whole trial so far, with all that was measured.
        runs: One a seed.
    """

    epoch: int
    is_complete: bool
    metrics: Mapping[str, float]
    records: Sequence[Mapping[str, Any]]
    runs: Sequence[SeedRun]


@dataclass(frozen=True)
class Loss:
    """What became of a trial's process.

    Attributes:
        reason: How it ended.
        lost_node: Identifier of the node that was lost with it; empty where only the process ended. A node that comes
            back has another one.
    """

    reason: str
    lost_node: str = ""


@dataclass
class TrialRuns:
    """The runs of one configuration in the folder of its trial, one a seed, on executors that are opened for them."""

    config: RunConfig
    seeds: Sequence[int]
    folder: Path
    open_executor: Opener

    def advance(self, epoch: int) -> Leg:
        """Trains all seeds to the end of ``epoch``, or of the run, from wherever their folders say.

        Raises:
            IsogradError: What a run raises.
        """
        epoch, is_complete = min(epoch, self.num_epochs), epoch >= self.num_epochs
        with held(self.folder, _PATIENCE_S):
            results = {seed: self._advance_run(seed, epoch) for seed in self.seeds}
            runs = [self._measure(seed) for seed in self.seeds]
        records = [record for seed, result in results.items() for record in _list_epochs(seed, result, epoch)]
        num_train = self._read_legs(self.seeds[0])[0]["num_train"]
        metrics = {
            **_average(list(results.values()), epoch, ends=is_complete),
            "peak_bytes": max(run.peak_bytes for run in runs),
            "epoch_s": fmean(num_train / run.samples_per_s for run in runs),
            "train_s": sum(run.wall_s for run in runs),
        }
        return Leg(epoch, is_complete, metrics, records, runs)

    @cached_property
    def num_epochs(self) -> int:
        """Of each run."""
        return count_epochs(self.config)

    @property
    def trained_s(self) -> float:
        """Seconds that went into the legs so far, in whatever process."""
        return sum(leg["wall_s"] for seed in self.seeds for leg in self._read_legs(seed))

    def config_of(self, seed: int) -> RunConfig:
        """Returns the configuration of a seed's run."""
        saving = replace(self.config.checkpoint, every_epochs=self.config.checkpoint.every_epochs or 1)
        return replace(self.config, seed=seed, folder=str(self.folder), run_name=f"seed-{seed}", checkpoint=saving)

    def _advance_run(self, seed: int, epoch: int) -> RunRecord:
        folder = self._run_folder(seed)
        try:
            stored = read_record(folder.path)
        except RunFolderError:  # no leg has ended, or it was left damaged
            stored = None
        if stored is not None and stored.fingerprint != fingerprint(self.config_of(seed)):
            raise StudyError(
                f"{folder.path} holds a run of another configuration",
                "It is no run of this trial, and its numbers would be taken for those of one",
                "Delete the folder of the trial, or begin another study with another tune.name.",
            )
        if stored is not None and stored.num_epochs >= epoch:
            # A disk that was full lets one file through, not the next: what was measured has to be written as well.
            reached = stored.num_epochs
            if any(leg.get("num_epochs", reached) >= reached for leg in self._read_legs(seed)):
                return stored
        elif checkpoint.saved(folder.checkpoints):
            result = self._execute(seed, prepare_resumed(folder.path, data_path=self.config.data.path), epoch)
            if self._measure(seed).samples_per_s:
                return result
        # Broken off before its first checkpoint, or between its last one and what it would have measured.
        shutil.rmtree(folder.path, ignore_errors=True)
        return self._execute(seed, prepare(self.config_of(seed)), epoch)

    def _execute(self, seed: int, prepared: Prepared, epoch: int) -> RunRecord:
        program = prepared.program
        if epoch < self.num_epochs:
            program = replace(program, max_steps=epoch * program.steps_per_epoch, pauses=True)
        result = execute(replace(prepared, program=program), None, self.open_executor)
        *earlier, last = map(asdict, result.spent)
        known = {leg["start"] for leg in self._read_legs(seed)}
        broken_off = [leg | {"num_epochs": 0} for leg in earlier if leg["start"] not in known]
        shared = {
            "num_train": program.source.num_train,
            "devices": [stage["device"] for stage in result.stages],
            "hardware": result.hardware,
        }
        with AppendedLines(self._run_folder(seed).path / _LEGS) as legs:
            for leg in (*broken_off, last | {"num_epochs": result.num_epochs}):
                legs.append(leg | shared)
        return result

    def _run_folder(self, seed: int) -> RunFolder:
        return RunFolder(self.folder / f"seed-{seed}")

    def _read_legs(self, seed: int) -> list[dict[str, Any]]:
        return list({leg["start"]: leg for leg in read_lines(self._run_folder(seed).path / _LEGS)}.values())

    def _measure(self, seed: int) -> SeedRun:
        legs = self._read_legs(seed)
        train_s = sum(leg["train_s"] for leg in legs)
        return SeedRun(
            seed,
            samples_per_s=sum(leg["num_samples"] for leg in legs) / train_s if train_s else 0.0,
            peak_bytes=max(leg["peak_bytes"] for leg in legs),
            wall_s=sum(leg["wall_s"] for leg in legs),
            device_s=sum(leg["device_s"] for leg in legs),
            devices=tuple(legs[-1]["devices"]),
            hardware=legs[-1]["hardware"],
        )


def _list_epochs(seed: int, record: RunRecord, epoch: int) -> list[dict[str, Any]]:
    """Returns the records of a seed's epochs until one, as a study keeps them."""
    return [{"seed": seed, **asdict(each)} for each in record.epochs if each.epoch <= epoch]


def _average(records: Sequence[RunRecord], epoch: int, *, ends: bool) -> dict[str, float]:
    """Returns the scores of a trial after an epoch, means over its seeds; the test's of one that is complete."""
    scores = average_scores([record.by_epoch(SPLIT) for record in records], epoch, records[0].score)
    tests = [record.test for record in records if ends and record.test is not None]
    return scores | ({TEST_SCORE: fmean(tests)} if tests else {})


class Trial(tune.Trainable):
    """Trains what its configuration says: one leg a call of Tune's, then Tune decides whether it goes on.

    What fails in training is a result, not an exception: whether the configuration, a process that was lost or the
    machine is to blame is told apart here, where it happens.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Begins with a configuration."""
        leave_last_words()
        self._hosts = Hosts()
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begins with another configuration, in the same process."""
        self._started_s, self._earlier_s, self._trained = time.perf_counter(), 0.0, 0
        self._given, self._runs = new_config, None
        self._legs, self._num_retries = list(new_config["legs"]), new_config["num_retries"]
        return True

    def step(self) -> dict[str, Any]:
        """Trains a leg."""
        epoch = self._legs.pop(0)
        try:
            leg = self._advance(epoch)
        except Exception as error:
            return {"epoch": epoch, TRAINED: self._trained, "done": True, **_blame(error)}
        self._trained = leg.epoch
        return {
            "epoch": leg.epoch,
            SCORE: leg.metrics[SCORE],
            RESULT: leg,
            "wall_s": self._earlier_s + time.perf_counter() - self._started_s,
            "done": leg.is_complete or not self._legs,
        }

    def cleanup(self) -> None:
        """Ends the actors that host stages."""
        self._hosts.release()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Saves nothing: all state is in the run folders."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Loads nothing: :meth:`setup` finds the run folders."""

    def _advance(self, epoch: int) -> Leg:
        while True:
            try:
                with no_exit():
                    if self._runs is None:
                        self._runs = self._begin()
                    return self._runs.advance(epoch)
            except Exception as error:
                # Another try may go better, but not of what the configuration itself brings about.
                may_pass = isinstance(error, StageFailedError) or not isinstance(error, IsogradError)
                if self._num_retries < 1 or not may_pass or FAILED not in _blame(error):
                    raise
                self._num_retries -= 1

    def _begin(self) -> TrialRuns:
        given = self._given
        config = from_dict(json.loads(given["config"]))
        runs = TrialRuns(config, given["seeds"], Path(given["folder"]), self._hosts.open)
        self._earlier_s = runs.trained_s
        return runs


def _blame(error: Exception) -> dict[str, Any]:
    """Returns what a failure is: the configuration's, the loss of a process, or trouble that all trials would have."""
    trouble = trouble_of(error)
    if isinstance(error, ProcessDiedError):
        return {LOST: Loss(_reason_of(error), error.lost_node)}
    if isinstance(trouble, MemoryShortError):  # another trial, or this one with fewer beside it, may need less
        return {LOST: Loss(_reason_of(trouble))}
    if trouble is not None:
        return {TROUBLE: trouble}
    if isinstance(error, RunFolderError):  # the process of an earlier try still works there
        return {LOST: Loss(_reason_of(error))}
    return {FAILED: _reason_of(error)}


def _reason_of(error: Exception) -> str:
    text = error.what if isinstance(error, IsogradError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:_LONGEST_REASON]


def bundles(config: RunConfig) -> list[dict[str, float]]:
    """Returns what a trial reserves, all of it at once: a bundle for its process, or one a stage."""
    return executor_of(config).bundles(Blueprint(config))


def resources(given: dict[str, Any]) -> tune.PlacementGroupFactory:
    """Returns the reservation as Tune wants it.

    Args:
        given: What the trial is given; see :class:`~isograd.tune.search.StudySearch`.
    """
    return tune.PlacementGroupFactory(given["bundles"], strategy="PACK")


def admitting(base: RunConfig) -> Callable[[Blueprint], None]:
    """Returns what raises PlacementError for a configuration that needs more than the cluster can ever have.

    Args:
        base: One that it has room for.
    """
    known = (base.executor, layout_of(Blueprint(base)).num_processes)

    def admit(blueprint: Blueprint) -> None:
        config, num_processes = blueprint.config, layout_of(blueprint).num_processes
        if (config.executor, num_processes) != known:
            need = placement.bundle(config.executor.demand, config.cluster)
            placement.check_capacity(num_processes, need, config.cluster)

    return admit


@dataclass(frozen=True)
class TrialRoom:
    """Attributes:
    num_pending: Trials that may wait for their processes at once: as many as may ever run, so that all start together
        (Tune gives a process that becomes free to a trial that waits, and drops the one that was starting for it: short
        trials would keep a second slot from ever coming up), and an autoscaler brings all it can.
    most_concurrent: Trials under way at once: one more, which waits for the next process, or as many as may run.
    """

    num_pending: int
    most_concurrent: int


def check_room(config: RunConfig) -> TrialRoom:
    """Checks that the cluster can ever hold a trial.

    Args:
        config: What all trials have in common.

    Raises:
        PlacementError: It cannot. Said at once, with the numbers.
    """
    need = placement.bundle(config.executor.demand, config.cluster)
    num_processes = layout_of(Blueprint(config)).num_processes
    placement.check_capacity(num_processes, need, config.cluster)
    room = placement.room(need, config.cluster)
    num_slots = max(room.ever // num_processes, 1)
    if not config.data.streams:
        return TrialRoom(num_slots, num_slots + 1)
    spare = int((ray.cluster_resources().get("CPU", 1) - 1) // (need["CPU"] * num_processes))  # Ray Data reads on one
    return TrialRoom(num_slots, max(spare, 1))
