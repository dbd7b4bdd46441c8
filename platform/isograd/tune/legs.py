"""A trial's runs, in legs: all seeds train to one epoch before any of them goes on.

So the mean over seeds is known at each epoch at which a scheduler may stop the trial, and what a leg has trained is in
the run folders: a trial that broke off goes on from there, bit for bit.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from isograd.config.schema import RunConfig
from isograd.executor.executor import Opener
from isograd.run import checkpoint
from isograd.run.experiment import Prepared, execute, prepare, prepare_resumed
from isograd.run.folder import RunFolder
from isograd.run.result import Result


@dataclass(frozen=True)
class Leg:
    """What a leg came to.

    Attributes:
        epoch: The last one that is trained.
        metrics: At that epoch: means over seeds, of memory the largest.
        by_epoch: Mean test error over seeds by epoch, of the whole trial so far.
        records: One a seed and epoch of the whole trial so far, with all that was measured.
    """

    epoch: int
    metrics: Mapping[str, float]
    by_epoch: Mapping[int, float]
    records: Sequence[Mapping[str, Any]]


@dataclass
class TrialRuns:
    """The runs of one configuration, one a seed.

    Args:
        config: Of the runs.
        seeds: Of the runs.
        folder: Of the trial.
        open_executor: Where executors come from.

    Attributes:
        train_s: Seconds spent training and testing, of all legs and seeds.
    """

    config: RunConfig
    seeds: Sequence[int]
    folder: Path
    open_executor: Opener
    train_s: float = 0.0
    _speeds: dict[int, list[tuple[int, float]]] = field(default_factory=dict)

    def advance(self, epoch: int) -> Leg:
        """Trains all seeds to the end of ``epoch``, from wherever their folders say.

        Raises:
            IsogradError: What a run raises.
        """
        results = {seed: self._advanced(seed, epoch) for seed in self.seeds}
        records = [record for seed, result in results.items() for record in _records(seed, result, epoch)]
        errors = {
            number: fmean(record["test_error"] for record in records if record["epoch"] == number)
            for number in range(1, epoch + 1)
        }
        metrics = {
            "test_error": errors[epoch],
            "best_test_error": fmean(
                min(record["test_error"] for record in records if record["seed"] == seed) for seed in self.seeds
            ),
            "peak_bytes": max(stage["peak_bytes"] for result in results.values() for stage in result.stages),
            "epoch_s": fmean(self._epoch_s(seed) for seed in self.seeds),
            "train_s": self.train_s,
        }
        return Leg(epoch, metrics, errors, records)

    def config_of(self, seed: int) -> RunConfig:
        """Returns the configuration of a seed's run."""
        saving = replace(self.config.checkpoint, every_epochs=self.config.checkpoint.every_epochs or 1)
        return replace(self.config, seed=seed, folder=str(self.folder), run_name=f"seed-{seed}", checkpoint=saving)

    def _advanced(self, seed: int, epoch: int) -> Result:
        folder = RunFolder(self.folder / f"seed-{seed}")
        if not checkpoint.saved(folder.checkpoints):
            shutil.rmtree(folder.path, ignore_errors=True)  # broken off before its first checkpoint
            return self._executed(seed, prepare(self.config_of(seed)), epoch)
        step = checkpoint.saved_step(checkpoint.newest(folder.checkpoints))
        result = _stored(folder)
        if result is not None and result.num_epochs >= epoch and result.num_steps == step:
            return result
        return self._executed(seed, prepare_resumed(folder.path), epoch)

    def _executed(self, seed: int, prepared: Prepared, epoch: int) -> Result:
        program = prepared.program
        last = 0 if epoch >= program.num_epochs else epoch * program.steps_per_epoch
        result = execute(replace(prepared, program=replace(program, max_steps=last)), None, self.open_executor)
        self.train_s += result.wall_s
        num_trained = result.num_steps - program.start.step
        epoch_s = program.source.num_train / result.images_per_s if result.images_per_s else 0.0
        self._speeds.setdefault(seed, []).append((num_trained, epoch_s))
        return result

    def _epoch_s(self, seed: int) -> float:
        """Returns seconds an epoch, over the legs that this process has trained."""
        legs = self._speeds.get(seed, [])
        steps = sum(num_steps for num_steps, _ in legs)
        return sum(num_steps * epoch_s for num_steps, epoch_s in legs) / steps if steps else 0.0


def _stored(folder: RunFolder) -> Result | None:
    """Returns the result of the leg before, or None where none has ended."""
    try:
        return Result(**json.loads(folder.result.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _records(seed: int, result: Result, epoch: int) -> list[dict[str, Any]]:
    """Returns what was measured in each epoch up to ``epoch``."""
    return [
        {
            "seed": seed,
            "epoch": row["epoch"],
            "test_error": row["module_test_errors"][-1],
            "module_test_errors": row["module_test_errors"],
            "module_train_losses": row["module_train_losses"],
        }
        for row in result.history
        if row["epoch"] <= epoch
    ]
