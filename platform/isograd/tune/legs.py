"""A trial's runs, in legs: all seeds train to one epoch before any of them goes on.

So the mean over seeds is known at each epoch at which a scheduler may stop the trial, and what a leg has trained is in
the run folders: a trial that broke off goes on from there, bit for bit.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from isograd.engine.config import RunConfig, fingerprint
from isograd.errors import RunFolderError, StudyError
from isograd.events.json_lines import AppendedLines, read_lines
from isograd.executors.executor import Opener
from isograd.run import checkpoint
from isograd.run.experiment import Prepared, execute, prepare, prepare_resumed
from isograd.run.folder import RunFolder
from isograd.run.result import Result
from isograd.run.stored_result import read_result
from isograd.system.lock import held

_PATIENCE_S = 30.0  # for the process of a trial that was lost, which may be slow to end
_LEGS = "legs.jsonl"


@dataclass(frozen=True)
class SeedRun:
    """One seed's run, all its legs together.

    Attributes:
        images_per_s: Training images a second.
        peak_bytes: Largest memory of a stage.
        wall_s: Seconds of training and testing.
        device_s: Sum over stages of the time that each held its device.
        devices: Where each stage computed.
        hardware: The machine.
    """

    seed: int
    images_per_s: float
    peak_bytes: int
    wall_s: float
    device_s: float
    devices: tuple[str, ...]
    hardware: str


@dataclass(frozen=True)
class Leg:
    """What a trial has come to after a leg.

    Attributes:
        epoch: The last one that is trained.
        metrics: At that epoch: means over seeds; of memory the largest, of training time the sum.
        records: One a seed and epoch of the whole trial so far, with all that was measured.
        runs: One a seed.
    """

    epoch: int
    metrics: Mapping[str, float]
    records: Sequence[Mapping[str, Any]]
    runs: Sequence[SeedRun]


@dataclass
class TrialRuns:
    """The runs of one configuration, one a seed.

    Args:
        config: Of the runs.
        seeds: Of the runs.
        folder: Of the trial.
        open_executor: Where executors come from.
    """

    config: RunConfig
    seeds: Sequence[int]
    folder: Path
    open_executor: Opener

    def advance(self, epoch: int) -> Leg:
        """Trains all seeds to the end of ``epoch``, from wherever their folders say.

        Raises:
            IsogradError: What a run raises.
        """
        with held(self.folder, _PATIENCE_S):
            results = {seed: self._advanced(seed, epoch) for seed in self.seeds}
            runs = [self._seed_run(seed) for seed in self.seeds]
        records = [record for seed, result in results.items() for record in _records(seed, result, epoch)]
        return Leg(epoch, self._metrics(records, runs, epoch), records, runs)

    @property
    def trained_s(self) -> float:
        """Seconds that went into the legs so far, in whatever process."""
        begun = [seed for seed in self.seeds if (self._run_folder(seed).path / _LEGS).exists()]
        return sum(leg["wall_s"] for seed in begun for leg in self._legs(seed))

    def config_of(self, seed: int) -> RunConfig:
        """Returns the configuration of a seed's run."""
        saving = replace(self.config.checkpoint, every_epochs=self.config.checkpoint.every_epochs or 1)
        return replace(self.config, seed=seed, folder=str(self.folder), run_name=f"seed-{seed}", checkpoint=saving)

    def _metrics(self, records: Sequence[Mapping[str, Any]], runs: Sequence[SeedRun], epoch: int) -> dict[str, float]:
        best = [min(record["test_error"] for record in records if record["seed"] == seed) for seed in self.seeds]
        return {
            "test_error": fmean(record["test_error"] for record in records if record["epoch"] == epoch),
            "best_test_error": fmean(best),
            "peak_bytes": max(run.peak_bytes for run in runs),
            "epoch_s": fmean(self._num_train / run.images_per_s for run in runs),
            "train_s": sum(run.wall_s for run in runs),
        }

    def _advanced(self, seed: int, epoch: int) -> Result:
        folder = self._run_folder(seed)
        stored = _stored(folder)
        if stored is not None and stored.fingerprint != fingerprint(self.config_of(seed)):
            raise StudyError(
                f"{folder.path} holds a run of another configuration",
                "It is no run of this trial, and its numbers would be taken for those of one",
                "Delete the folder of the trial, or begin another study with another tune.name.",
            )
        if stored is not None and stored.num_epochs >= epoch:
            if self._has_legs_to(seed, stored.num_epochs):
                return stored
        elif checkpoint.saved(folder.checkpoints):
            result = self._executed(seed, prepare_resumed(folder.path, data_path=self.config.data.path), epoch)
            if self._seed_run(seed).images_per_s:
                return result
        # Broken off before its first checkpoint, or between its last one and what it would have measured.
        shutil.rmtree(folder.path, ignore_errors=True)
        return self._executed(seed, prepare(self.config_of(seed)), epoch)

    def _has_legs_to(self, seed: int, epoch: int) -> bool:
        """Whether what was measured was written too: a disk that was full lets one file through, not the next."""
        return any(leg.get("num_epochs", epoch) >= epoch for leg in self._legs(seed))

    def _executed(self, seed: int, prepared: Prepared, epoch: int) -> Result:
        program = prepared.program
        last = 0 if epoch >= program.num_epochs else epoch * program.steps_per_epoch
        result = execute(replace(prepared, program=replace(program, max_steps=last)), None, self.open_executor)
        *earlier, last = result.spent
        known = {leg["start"] for leg in self._legs(seed)}
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

    def _legs(self, seed: int) -> list[dict[str, Any]]:
        return list({leg["start"]: leg for leg in read_lines(self._run_folder(seed).path / _LEGS)}.values())

    @property
    def _num_train(self) -> int:
        return self._legs(self.seeds[0])[0]["num_train"]

    def _seed_run(self, seed: int) -> SeedRun:
        legs = self._legs(seed)
        train_s = sum(leg["train_s"] for leg in legs)
        return SeedRun(
            seed,
            images_per_s=sum(leg["num_images"] for leg in legs) / train_s if train_s else 0.0,
            peak_bytes=max(leg["peak_bytes"] for leg in legs),
            wall_s=sum(leg["wall_s"] for leg in legs),
            device_s=sum(leg["device_s"] for leg in legs),
            devices=tuple(legs[-1]["devices"]),
            hardware=legs[-1]["hardware"],
        )


def _stored(folder: RunFolder) -> Result | None:
    """Returns the result of the leg before, or None where none has ended, or it was left damaged."""
    try:
        return read_result(folder.path)
    except RunFolderError:
        return None


def _records(seed: int, result: Result, epoch: int) -> Iterator[dict[str, Any]]:
    """Yields what was measured in each epoch up to ``epoch``."""
    for row in result.history:
        if row["epoch"] <= epoch:
            errors = row["module_test_errors"]
            yield {"seed": seed, "epoch": row["epoch"], "test_error": errors[-1], **row}


def as_json(run: SeedRun) -> dict[str, Any]:
    """Returns a run as JSON."""
    return {**asdict(run), "devices": list(run.devices)}
