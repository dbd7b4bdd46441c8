"""A comparison as a value: its entries, their runs, and what they come to."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from isograd.engine.config import RunConfig
from isograd.studies.records import Record
from isograd.studies.statistics import Spread, differences, ratios, spread

_OF_A_RUN = (
    *("seed", "fingerprint", "num_epochs", "test_error", "best_test_error"),
    *("images_per_s", "peak_bytes", "device_s", "devices", "hardware"),
)


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

    @property
    def scores(self) -> dict[int, float]:
        """Seed -> what a finished run is judged by, after the last epoch."""
        return self._by_seed(lambda record: record.test_error)

    @property
    def speeds(self) -> dict[int, float]:
        """Seed -> training images a second; a run without a training step has none."""
        return self._by_seed(lambda record: record.images_per_s or None)

    def _by_seed(self, value: Callable[[Record], float | None]) -> dict[int, float]:
        figures = {record.seed: value(record) for record in self.records}
        return {seed: figure for seed, figure in figures.items() if figure is not None}


@dataclass(frozen=True)
class Summary:
    """An entry's figures over seeds. Errors are shares in [0, 1], times seconds, memory bytes.

    Attributes:
        test_error: After the last epoch.
        best_test_error: Of each run's best epoch.
        difference: Test error minus the baseline's, by seed; None for the baseline itself.
        speed_ratio: Mean over seeds of images a second over the baseline's; None for the baseline itself.
        peak_bytes: Largest over stages and seeds.
        device_s: Device seconds of a run.
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
        rule: In a sentence, what all entries got the same amount of.
        timing: In a sentence, how and where they were timed.
        baseline: Label of the baseline.
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
    def records(self) -> list[Record]:
        """All finished runs."""
        return [record for entry in self.entries for record in entry.records]

    @property
    def hardware(self) -> list[str]:
        """The machines that the runs were made on."""
        return sorted({record.hardware for record in self.records})

    def summary(self, entry: Entry) -> Summary:
        """Returns the figures of an entry."""
        return summarise(entry, next(other for other in self.entries if other.label == self.baseline))

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
    has_pairs = entry is not baseline
    ratio = spread(ratios(entry.speeds, baseline.speeds)) if has_pairs else None
    return Summary(
        test_error=spread(entry.scores.values()),
        best_test_error=spread(record.best_test_error for record in entry.records),
        difference=spread(differences(entry.scores, baseline.scores)) if has_pairs else None,
        images_per_s=spread(entry.speeds.values()),
        speed_ratio=None if ratio is None else ratio.mean,
        peak_bytes=max((record.peak_bytes for record in entry.records if record.peak_bytes is not None), default=None),
        device_s=spread(record.device_s for record in entry.records),
        num_epochs=max((record.num_epochs for record in entry.records), default=entry.config.train.epochs),
    )


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
    curve = [{"epoch": epoch, "test_error": error} for epoch, error in record.test_errors.items()]
    return {"folder": str(record.folder), **{name: getattr(record, name) for name in _OF_A_RUN}, "curve": curve}
