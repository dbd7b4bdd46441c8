"""Runs that never happened, for the tests of what is computed from runs."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from isograd.compare.comparison import AuxiliaryParameters, Comparison, Entry, Failure
from isograd.config.load import load
from isograd.engine.config import RunConfig
from isograd.studies.records import Record


@cache
def composed(*overrides: str) -> RunConfig:
    return load(["executor=sequential", *overrides])


def config(*overrides: str, seed: int = 0) -> RunConfig:
    return replace(composed(*overrides), seed=seed)


def record(
    config: RunConfig,
    errors: tuple[float, ...] = (0.5, 0.25),
    images_per_s: float = 1000.0,
    peak_bytes: int = 3 * 2**20,
    devices: tuple[str, ...] = ("cpu",),
) -> Record:
    return Record(
        folder=Path(f"runs/{config.method.name}-seed{config.seed}"),
        config=config,
        fingerprint="abc",
        num_epochs=len(errors),
        test_error=errors[-1],
        best_test_error=min(errors),
        test_errors={epoch: error for epoch, error in enumerate(errors, start=1)},
        images_per_s=images_per_s,
        peak_bytes=peak_bytes,
        device_s=10.0,
        devices=devices,
        hardware="a machine",
    )


def result(fingerprint: str = "abc") -> dict[str, Any]:
    """Returns a run's result as result.json has it, of two epochs in two legs."""
    legs = [
        {"start": start, "num_images": 80, "train_s": train_s, "wall_s": 2.0, "device_s": 4.0, "peak_bytes": peak_bytes}
        for start, train_s, peak_bytes in ((0, 1.0, 2**21), (10, 3.0, 2**20))
    ]
    stage = {"stage": 0, "device": "cpu", "num_steps": 10, "num_images": 80, "peak_bytes": 2**20}
    return {
        **{"test_error": 0.25, "best_test_error": 0.25, "module_test_errors": [0.5, 0.25], "num_epochs": 2},
        **{"num_steps": 20, "images_per_s": 40.0, "wall_s": 4.0, "device_s": 8.0, "peak_bytes": 2**21, "spent": legs},
        **{
            "stages": [stage],
            "checkpoint": None,
            "fingerprint": fingerprint,
            "hardware": "a machine",
            "timeline": None,
        },
        "history": [{"epoch": 1, "module_test_errors": [0.6, 0.5]}, {"epoch": 2, "module_test_errors": [0.5, 0.25]}],
    }


def entry(label: str, *runs: Record, failures: tuple[Failure, ...] = (), remarks: tuple[str, ...] = ()) -> Entry:
    first = runs[0].config if runs else config()
    return Entry(label, first, 4, AuxiliaryParameters(1234, 0), 2048.0, runs, failures, remarks)


def comparison(*entries: Entry) -> Comparison:
    return Comparison("isograd compare x", "Equal epochs: 2 for every entry.", "Timed", entries[0].label, entries)
