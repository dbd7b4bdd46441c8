"""Runs that never happened, for the tests of what is computed from runs."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from isograd.compare.comparison import AuxiliaryParameters, Comparison, Entry, Failure, choose_split
from isograd.config.load import load
from isograd.engine.config import RunConfig
from isograd.events.events import EpochRecord
from isograd.run.record import RunRecord
from isograd.run.spent import Spent
from isograd.studies.records import FinishedRun
from isograd.tasks.task import Score

ERROR = Score("error", "%", higher_is_better=False, scale=100, label="error")
PSNR = Score("psnr", "dB", higher_is_better=True, label="PSNR")


@cache
def composed(*overrides: str) -> RunConfig:
    return load(["executor=sequential", *overrides])


def config(*overrides: str, seed: int = 0) -> RunConfig:
    return replace(composed(*overrides), seed=seed)


def epoch_record(epoch: int, split: str, module: int, metric: str, value: float) -> EpochRecord:
    return EpochRecord(epoch, split, module, None, {metric: value}, 10 * epoch, "unit", 80)


def run_record(
    scores: tuple[float, ...] = (0.5, 0.25),
    *,
    score: Score = ERROR,
    split: str = "test",
    test: float | None = None,
    samples_per_s: float = 1000.0,
    peak_bytes: int = 3 * 2**20,
    devices: tuple[str, ...] = ("cpu",),
    fingerprint: str = "abc",
) -> RunRecord:
    """Returns a record of one module. ``scores`` are one an epoch; ``test`` is after the last, if not they are."""
    epochs = [epoch_record(epoch, split, 0, score.metric, value) for epoch, value in enumerate(scores, start=1)]
    epochs += [] if test is None else [epoch_record(len(scores), "test", 0, score.metric, test)]
    stages = [
        {"stage": index, "device": device, "num_steps": 10, "num_samples": 80, "peak_bytes": 2**20}
        for index, device in enumerate(devices)
    ]
    return RunRecord(
        score=score,
        split=split,
        epochs=epochs,
        num_modules=1,
        num_steps=20,
        samples_per_s=samples_per_s,
        wall_s=4.0,
        device_s=10.0,
        peak_bytes=peak_bytes,
        stages=stages,
        checkpoint=None,
        fingerprint=fingerprint,
        hardware="a machine",
        spent=[Spent(start, 80, 1.0, 2.0, 5.0, peak_bytes) for start in (0, 10)],
    )


def finished(
    config: RunConfig, scores: tuple[float, ...] = (0.5, 0.25), samples_per_s: float = 1000.0, **given: Any
) -> FinishedRun:
    folder = Path(f"runs/{config.method.name}-seed{config.seed}")
    return FinishedRun(folder, config, run_record(scores, samples_per_s=samples_per_s, **given))


def entry(label: str, *runs: FinishedRun, failures: tuple[Failure, ...] = (), remarks: tuple[str, ...] = ()) -> Entry:
    first = runs[0].config if runs else config()
    return Entry(label, first, 4, AuxiliaryParameters(1234, 0), 2048.0, runs, failures, remarks)


def comparison(*entries: Entry, score: Score = ERROR) -> Comparison:
    rule, runs = "Equal epochs: 2 for every entry.", [run for entry in entries for run in entry.runs]
    return Comparison("isograd compare x", rule, "Timed", entries[0].label, entries, score, choose_split(runs))
