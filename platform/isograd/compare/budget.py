"""The rule of equal device seconds: how many epochs each entry can afford, by its own measured speed."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from isograd.compare.arguments import Request
from isograd.compare.isolated import run_apart
from isograd.compare.planning import Planned, naming
from isograd.engine.config import CheckpointConfig, RunConfig
from isograd.errors import IsogradError
from isograd.events.json_lines import read_lines
from isograd.run.experiment import execute, prepare
from isograd.run.folder import RunFolder
from isograd.studies.records import list_options
from isograd.system.files import write_atomically

NUM_STEPS = 40  # of a calibration; the first quarter fills the pipeline and warms caches, and is not timed


@dataclass(frozen=True)
class Speed:
    """How fast an entry trains.

    Attributes:
        samples_per_s: Steady, of all stages together.
        num_train: Samples of an epoch.
        num_stages: S, the devices held.
    """

    samples_per_s: float
    num_train: int
    num_stages: int

    @property
    def epoch_device_s(self) -> float:
        """Device seconds of a training epoch, without its test."""
        return self.num_train / self.samples_per_s * self.num_stages


@dataclass(frozen=True)
class Budget:
    """What each entry gets.

    Attributes:
        entries: With the epochs that they can afford.
        rule: The rule in a sentence.
        failures: Label -> why it could not be timed.
    """

    entries: list[Planned]
    rule: str
    failures: Mapping[str, str]


def assign_epochs(entries: Sequence[Planned], request: Request) -> Budget:
    """Times every entry, unless an interrupted comparison has done so, and gives each the epochs that it can afford.

    Raises:
        IsogradError: The baseline, whose time is the budget, cannot be timed.
    """
    calibrations = _Calibrations(request.output / "calibration.json")
    baseline, device_s, source = None, request.device_s, "as asked for"
    if device_s is None:  # what the baseline takes for the epochs that it has
        baseline = next(entry for entry in entries if entry.label == request.baseline)
        with naming(baseline.label):
            device_s = calibrations.speed(baseline).epoch_device_s * baseline.config.train.epochs
        source = f"what {baseline.label} takes for {baseline.config.train.epochs} epochs"
    planned: list[Planned] = []
    failures: dict[str, str] = {}
    for entry in entries:
        try:
            speed = calibrations.speed(entry)
            planned.append(entry if entry is baseline else _afford(entry, speed, device_s))
        except IsogradError as error:
            planned.append(entry)
            failures[entry.label] = error.what
    rule = (
        f"Equal device seconds: {device_s:,.1f} s of training a run, {source}. Each entry trains for the whole epochs, "
        f"at least one, that its speed in a calibration of {NUM_STEPS} steps affords. The device seconds in the table "
        "were measured in the runs themselves, all that they validated and tested included."
    )
    return Budget(planned, rule, failures)


def _afford(entry: Planned, speed: Speed, device_s: float) -> Planned:
    if speed.epoch_device_s > device_s:
        remark = f"a single epoch takes {speed.epoch_device_s:,.1f} device seconds, more than the budget"
        entry = replace(entry, remarks=(*entry.remarks, remark))
    return entry.with_epochs(count_affordable(device_s, speed.epoch_device_s))


def count_affordable(device_s: float, epoch_device_s: float) -> int:
    """Returns how many whole epochs fit into ``device_s``, at least 1."""
    return max(1, int(device_s / epoch_device_s + 1e-9))  # ten tenths are one


def measure(config: RunConfig) -> Speed:
    """Trains some tens of steps in a temporary folder, without tests, and returns the steady speed."""
    with tempfile.TemporaryDirectory(prefix="isograd-calibration-") as folder:
        calibration = replace(
            config,
            folder=folder,
            run_name="calibration",
            train=replace(config.train, max_steps=NUM_STEPS),
            executor=replace(config.executor, event_interval_s=0.0),
            checkpoint=CheckpointConfig(every_epochs=0),
        )
        prepared = prepare(calibration)
        program = replace(prepared.program, evaluates=False)
        result = execute(replace(prepared, program=program))
        speed = _read_steady(prepared.folder, len(result.stages) - 1) or result.samples_per_s
    assert speed is not None, "a calibration trains, from its first step on"
    return Speed(speed, program.source.num_train, len(result.stages))


def _read_steady(folder: RunFolder, stage: int) -> float | None:
    """Returns a stage's samples a second after the first quarter, or None where there are too few steps."""
    points = [
        (record["num_samples"], record["elapsed_s"])
        for record in read_lines(folder.events)
        if record.get("event") == "Progress" and record["stage"] == stage
    ]
    if len(points) < 2:
        return None
    (first_count, first_s), (last_count, last_s) = points[len(points) // 4], points[-1]
    return (last_count - first_count) / (last_s - first_s)


class _Calibrations:
    """Speeds by label, in a file, so that an interrupted comparison goes on with the same number of epochs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stored: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def speed(self, entry: Planned) -> Speed:
        """Returns the entry's speed, measured unless its configuration has been before. Raises IsogradError."""
        options = json.loads(json.dumps(list_options(entry.config)))
        known = self._stored.get(entry.label, {})
        if known.get("options") != options:
            speed = run_apart(measure, entry.config)
            known = self._stored[entry.label] = {"options": options, "speed": asdict(speed)}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, json.dumps(self._stored, indent=2) + "\n")
        return Speed(**known["speed"])
