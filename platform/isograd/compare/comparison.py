"""A comparison as a value: its entries, their runs, and what they come to."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from isograd.engine.config import RunConfig
from isograd.studies.load import Record
from isograd.studies.statistics import Spread, differences, ratios, spread


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
        label: Its name.
        config: Of its first seed.
        num_modules: K.
        auxiliary: Size of its auxiliary networks.
        saved_bytes: Most bytes that autograd keeps for backward in a step, per image.
        records: Finished runs.
        failures: The others.
        remarks: What a reader of its figures must know.
    """

    label: str
    config: RunConfig
    num_modules: int
    auxiliary: AuxiliaryParameters
    saved_bytes: float
    records: tuple[Record, ...]
    failures: tuple[Failure, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def seeds(self) -> list[int]:
        """Of all its runs, failed ones included."""
        return sorted({item.seed for item in (*self.records, *self.failures)})

    def by_seed(self, value: Callable[[Record], float | None]) -> dict[int, float]:
        """Returns seed -> value, for the finished runs that have it."""
        found = ((record.seed, value(record)) for record in self.records)
        return {seed: figure for seed, figure in found if figure is not None}


@dataclass(frozen=True)
class Summary:
    """An entry's figures over seeds. Errors are shares in [0, 1], times seconds, memory bytes.

    Attributes:
        test_error: After the last epoch.
        best_test_error: Of each run's best epoch.
        difference: Test error minus the baseline's, by seed; None for the baseline itself.
        images_per_s: Training images a second.
        speed_ratio: Mean over seeds of images a second over the baseline's; None for the baseline itself.
        peak_bytes: Largest over stages and seeds.
        device_s: Device seconds of a run.
        num_epochs: Of each run.
    """

    test_error: Spread | None
    best_test_error: Spread | None
    difference: Spread | None
    images_per_s: Spread | None
    speed_ratio: float | None
    peak_bytes: int | None
    device_s: Spread | None
    num_epochs: int


@dataclass(frozen=True)
class Comparison:
    """Entries, what they are measured against, and under which conditions.

    Attributes:
        command: The command line.
        rule: In a sentence, what all entries got the same amount of.
        timing: In a sentence, how and where they were timed.
        baseline: Label of the baseline.
        entries: The rows.
    """

    command: str
    rule: str
    timing: str
    baseline: str
    entries: tuple[Entry, ...]

    @property
    def has_failures(self) -> bool:
        """Whether any run did not come to its end."""
        return any(entry.failures for entry in self.entries)

    @property
    def seeds(self) -> list[int]:
        """Of all entries."""
        return sorted({seed for entry in self.entries for seed in entry.seeds})

    @property
    def hardware(self) -> list[str]:
        """The machines that the runs were made on."""
        return sorted({record.hardware for entry in self.entries for record in entry.records})

    def summary(self, entry: Entry) -> Summary:
        """Returns the figures of an entry."""
        baseline = next(other for other in self.entries if other.label == self.baseline)
        return summarise(entry, baseline)

    def to_json(self, notes: Sequence[str]) -> dict[str, Any]:
        """Returns everything as JSON, with the table's notes."""
        return {
            "format": 1,
            "command": self.command,
            "rule": self.rule,
            "timing": self.timing,
            "hardware": self.hardware,
            "seeds": self.seeds,
            "baseline": self.baseline,
            "notes": list(notes),
            "entries": [_entry_json(entry, self.summary(entry)) for entry in self.entries],
        }


def summarise(entry: Entry, baseline: Entry) -> Summary:
    """Returns an entry's figures, paired with the baseline's by seed."""
    errors, speeds = entry.by_seed(_test_error), entry.by_seed(_speed)
    is_baseline = entry is baseline
    known_peaks = [record.peak_bytes for record in entry.records if record.peak_bytes is not None]
    ratio = None if is_baseline else spread(ratios(speeds, baseline.by_seed(_speed)))
    return Summary(
        test_error=spread(errors.values()),
        best_test_error=spread(entry.by_seed(lambda record: record.best_test_error).values()),
        difference=None if is_baseline else spread(differences(errors, baseline.by_seed(_test_error))),
        images_per_s=spread(speeds.values()),
        speed_ratio=None if ratio is None else ratio.mean,
        peak_bytes=max(known_peaks, default=None),
        device_s=spread(record.device_s for record in entry.records if record.device_s is not None),
        num_epochs=max((record.num_epochs for record in entry.records), default=entry.config.train.epochs),
    )


def _test_error(record: Record) -> float | None:
    return record.test_error


def _speed(record: Record) -> float | None:
    return record.images_per_s or None  # a run without a training step has none


def _entry_json(entry: Entry, summary: Summary) -> dict[str, Any]:
    return {
        "label": entry.label,
        "method": entry.config.method.name,
        "num_modules": entry.num_modules,
        "auxiliary_parameters": asdict(entry.auxiliary),
        "saved_bytes_per_image": entry.saved_bytes,
        "remarks": list(entry.remarks),
        "summary": asdict(summary),
        "runs": [_run_json(record) for record in entry.records],
        "failures": [asdict(failure) for failure in entry.failures],
    }


def _run_json(record: Record) -> dict[str, Any]:
    return {
        "seed": record.seed,
        "folder": str(record.folder),
        "fingerprint": record.fingerprint,
        "num_epochs": record.num_epochs,
        "test_error": record.test_error,
        "best_test_error": record.best_test_error,
        "images_per_s": record.images_per_s,
        "peak_bytes": record.peak_bytes,
        "device_s": record.device_s,
        "devices": list(record.devices),
        "hardware": record.hardware,
        "curve": [{"epoch": epoch, "test_error": error} for epoch, error in record.test_errors.items()],
    }
