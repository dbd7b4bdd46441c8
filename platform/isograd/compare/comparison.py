"""A comparison as a value: its entries, their runs, and what they come to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from isograd.display.measures import Measure
from isograd.engine.config import RunConfig
from isograd.errors import ConfigError
from isograd.studies.records import FinishedRun
from isograd.studies.statistics import Spread, differences, ratios, spread
from isograd.tasks.task import Score

_NOT_OF_A_RUN = ("format", "score", "epochs", "stages", "spent")  # the run's own folder has them


@dataclass(frozen=True)
class AuxiliaryParameters:
    """Size of the auxiliary networks of all K local modules together; ``num_frozen`` get no gradient."""

    num_trainable: int
    num_frozen: int


@dataclass(frozen=True)
class Failure:
    """A run that did not come to its end, and in a sentence why."""

    seed: int
    reason: str


@dataclass(frozen=True)
class Entry:
    """A row: runs that differ in their seeds only.

    Attributes:
        config: Of its first seed.
        num_modules: K.
        saved_bytes: Most bytes that autograd keeps for backward in a step, per sample.
        runs: Finished ones.
        failures: The others.
        remarks: What a reader of its figures must know.
    """

    label: str
    config: RunConfig
    num_modules: int
    auxiliary: AuxiliaryParameters
    saved_bytes: float
    runs: tuple[FinishedRun, ...]
    failures: tuple[Failure, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def seeds(self) -> list[int]:
        """Of all its runs, failed ones included."""
        return sorted({item.seed for item in (*self.runs, *self.failures)})

    def scores(self, split: str) -> dict[int, float]:
        """Returns seed -> the score of a finished run on a split, after the last epoch that has it."""
        return self._by_seed(lambda run: next(reversed(run.record.by_epoch(split).values()), None))

    @property
    def speeds(self) -> dict[int, float]:
        """Seed -> training samples a second; a run without a training step has none."""
        return self._by_seed(lambda run: run.record.samples_per_s or None)

    def _by_seed(self, value: Callable[[FinishedRun], float | None]) -> dict[int, float]:
        figures = {run.seed: value(run) for run in self.runs}
        return {seed: figure for seed, figure in figures.items() if figure is not None}


@dataclass(frozen=True)
class Summary:
    """An entry's figures over seeds: scores as their metric computes them, times in seconds, memory in bytes.

    Attributes:
        score: After the last epoch, on the comparison's split.
        best: Of each run's best epoch, on the split that the run is judged on.
        difference: Score minus the baseline's, by seed; None for the baseline itself.
        speed_ratio: Mean over seeds of samples a second over the baseline's; None for the baseline itself.
        peak_bytes: Largest over stages and seeds.
        device_s: Device seconds of a run.
    """

    score: Spread | None
    best: Spread | None
    difference: Spread | None
    samples_per_s: Spread | None
    speed_ratio: float | None
    peak_bytes: int | None
    device_s: Spread | None
    num_epochs: int


@dataclass(frozen=True)
class Comparison:
    """Entries, what they are measured against, and under which conditions.

    Attributes:
        rule: In a sentence, what all entries got the same amount of.
        timing: In a sentence, how and where they were timed.
        baseline: Label of the baseline.
        score: By which all runs are judged.
        split: On which they are compared: the test split, where they all have been tested.
    """

    command: str
    rule: str
    timing: str
    baseline: str
    entries: tuple[Entry, ...]
    score: Score
    split: str = "test"

    @cached_property
    def measure(self) -> Measure:
        """How the scores are written that entries are compared by."""
        return Measure.of(self.score, self.split)

    @cached_property
    def judged(self) -> Measure:
        """How the scores by epoch are written, which are of the split that each run is judged on."""
        splits = sorted({run.record.split for run in self.runs}) or [self.split]
        return Measure.of(self.score, " or ".join(splits))

    @property
    def has_failures(self) -> bool:
        """Whether any run did not come to its end."""
        return any(entry.failures for entry in self.entries)

    @property
    def seeds(self) -> list[int]:
        """Of all entries."""
        return sorted({seed for entry in self.entries for seed in entry.seeds})

    @property
    def runs(self) -> list[FinishedRun]:
        """All finished ones."""
        return [run for entry in self.entries for run in entry.runs]

    @property
    def hardware(self) -> list[str]:
        """The machines that the runs were made on."""
        return sorted({run.record.hardware for run in self.runs})

    def summary(self, entry: Entry) -> Summary:
        """Returns the figures of an entry."""
        return summarise(entry, next(other for other in self.entries if other.label == self.baseline), self.split)

    def to_json(self, notes: Sequence[str]) -> dict[str, Any]:
        """Returns everything as JSON, with the table's notes."""
        return {
            "format": 2,
            "command": self.command,
            "rule": self.rule,
            "timing": self.timing,
            "hardware": self.hardware,
            "seeds": self.seeds,
            "baseline": self.baseline,
            "score": asdict(self.score),
            "split": self.split,
            "notes": list(notes),
            "entries": [_entry_json(entry, self.summary(entry)) for entry in self.entries],
        }


def choose_split(runs: Sequence[FinishedRun]) -> str:
    """Returns the split that runs are compared on: the test split, if all that have a score have one there.

    Raises:
        ConfigError: There is no split that all of them have a score on.
    """
    splits = {run.folder: {split for split in ("valid", "test") if run.record.by_epoch(split)} for run in runs}
    scored = {folder: each for folder, each in splits.items() if each}
    shared = set.intersection(*scored.values()) if scored else {"test"}
    if not shared:
        raise ConfigError(
            "the runs have no split in common: "
            + "; ".join(f"{folder} has a score on {', '.join(sorted(each))}" for folder, each in scored.items()),
            "Scores on different data do not compare",
            "Use runs that have been tested, or that were validated on the same data.",
        )
    return "test" if "test" in shared else "valid"


def check_one_score(scores: Mapping[str, Score]) -> Score:
    """Returns by what all of several entries are judged. Raises ConfigError where that differs."""
    (first, score), *others = scores.items()
    for label, other in others:
        if other != score:
            raise ConfigError(
                f"entry '{label}' is judged by {_write_score(other)}, entry '{first}' by {_write_score(score)}",
                "Their difference would mean nothing",
                "Use entries of one task, and compare the others by themselves.",
            )
    return score


def _write_score(score: Score) -> str:
    measure = Measure.of(score, "")
    return f"{measure.axis.strip()} ({measure.better} is better)"


def summarise(entry: Entry, baseline: Entry, split: str) -> Summary:
    """Returns an entry's figures, paired with the baseline's by seed."""
    has_pairs = entry is not baseline
    ratio = spread(ratios(entry.speeds, baseline.speeds)) if has_pairs else None
    return Summary(
        score=spread(entry.scores(split).values()),
        best=spread(run.record.best for run in entry.runs),
        difference=spread(differences(entry.scores(split), baseline.scores(split))) if has_pairs else None,
        samples_per_s=spread(entry.speeds.values()),
        speed_ratio=None if ratio is None else ratio.mean,
        peak_bytes=max((run.record.peak_bytes for run in entry.runs), default=None),
        device_s=spread(run.record.device_s for run in entry.runs),
        num_epochs=max((run.record.num_epochs for run in entry.runs), default=entry.config.train.epochs),
    )


def _entry_json(entry: Entry, summary: Summary) -> dict[str, Any]:
    return {
        "label": entry.label,
        "method": entry.config.method.name,
        "num_modules": entry.num_modules,
        "auxiliary_parameters": asdict(entry.auxiliary),
        "saved_bytes_per_sample": entry.saved_bytes,
        "remarks": list(entry.remarks),
        "summary": asdict(summary),
        "runs": [_run_json(run) for run in entry.runs],
        "failures": [asdict(failure) for failure in entry.failures],
    }


def _run_json(run: FinishedRun) -> dict[str, Any]:
    record = run.record
    return {
        "folder": str(run.folder),
        "seed": run.seed,
        **{name: value for name, value in record.to_json().items() if name not in _NOT_OF_A_RUN},
        "devices": run.devices,
        "num_epochs": record.num_epochs,
        "final": record.final,
        "best": record.best,
        "test": record.test,
        "curve": [{"epoch": epoch, "score": score} for epoch, score in record.by_epoch().items()],
    }
