"""What was tried in a study and what came of it: outcomes, and the records of epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isograd.config.load import from_dict
from isograd.engine.config import RunConfig
from isograd.events.json_lines import AppendedLines, read_lines

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

ASSIGNED, OUTCOME = "assigned", "outcome"  # of a trial in its storage
_EPOCHS = "epochs.jsonl"


@dataclass(frozen=True)
class SeedRun:
    """One seed's run, all its legs together.

    Attributes:
        samples_per_s: Training samples a second.
        peak_bytes: Largest memory of a stage.
        wall_s: Seconds of training and testing.
        device_s: Sum over stages of the time that each held its device.
        devices: Where each stage computed.
        hardware: The machine.
    """

    seed: int
    samples_per_s: float
    peak_bytes: int
    wall_s: float
    device_s: float
    devices: tuple[str, ...]
    hardware: str


_EPOCH_KEY = ("seed", "epoch", "split", "module")


@dataclass(frozen=True)
class Assignment:
    """A configuration to try.

    Attributes:
        number: Of the trial.
        config: Of its runs, apart from seed and folder.
        settings: What sets it apart from other trials, by option.
    """

    number: int
    config: RunConfig
    settings: Mapping[str, Any]

    def summary(self) -> str:
        """Returns the settings in a line, by the last part of their names."""
        return " ".join(f"{name.rpartition('.')[2]}={_brief(value)}" for name, value in self.settings.items())


def _brief(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return ",".join(map(_brief, value)) if isinstance(value, list) else str(value)


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        kind: ``complete``; ``pruned`` (stopped early, behind others); ``failed``; ``lost`` (its process or node).
        metrics: At its end, means over seeds; of a trial that failed or was lost, none.
        epoch: The last one that it trained.
        reason: Why it failed or was lost.
        runs: A :class:`SeedRun` a seed, as JSON.
        host: Where it ended.
    """

    kind: str
    metrics: Mapping[str, float]
    epoch: int
    reason: str = ""
    runs: Sequence[Mapping[str, Any]] = ()
    host: str = ""


def assignment_of(trial: "FrozenTrial") -> Assignment:
    """Returns what a trial was given."""
    record = trial.user_attrs[ASSIGNED]
    return Assignment(trial.number, from_dict(record["config"]), record["settings"])


def outcome_of(trial: "FrozenTrial") -> Outcome | None:
    """Returns what came of a trial, or None while it is under way."""
    record = trial.user_attrs.get(OUTCOME)
    return None if record is None else Outcome(**record)


class EpochRecords(AppendedLines):
    """Appends what was measured, a record a trial, seed, epoch, split and module, to JSON lines; a context manager.

    A trial that was lost reports again what it had reported, which is the same to the bit, and appended once.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / _EPOCHS)
        self._known: set[tuple[Any, ...]] = set()

    def take(self, trial: int, record: Mapping[str, Any]) -> None:
        """Takes one record."""
        key = (trial, *itemgetter(*_EPOCH_KEY)(record))
        if key not in self._known:
            self._known.add(key)
            self.append({"trial": trial, **record})


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Returns the records of a study, ordered by trial, seed, epoch, split and module, each once: a sweep that goes on
    appends those again of the trials that it takes up.

    Raises:
        RunFolderError: The file cannot be read, or is no text.
    """
    key = itemgetter("trial", *_EPOCH_KEY)
    records = {key(record): record for record in read_lines(folder / _EPOCHS)}
    return [records[each] for each in sorted(records)]
