"""What a sweep's trials have measured, epoch by epoch: JSON lines in the study's folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isograd.events.json_lines import AppendedLines, read_lines

_FILE = "epochs.jsonl"


class EpochRecords(AppendedLines):
    """Appends records, one a trial, seed and epoch; a context manager.

    A trial that was lost reports again what it had reported; the last record counts.

    Args:
        folder: Of the study.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / _FILE)
        self._known: set[tuple[int, int, int]] = set()

    def take(self, trial: int, record: Mapping[str, Any]) -> None:
        """Takes one record."""
        key = (trial, record["seed"], record["epoch"])
        if key not in self._known:
            self._known.add(key)
            self.append({"trial": trial, **record})


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Returns the records of a study, ordered by trial, seed and epoch; of several for the same, the last.

    Raises:
        RunFolderError: The file cannot be read, or is no text.
    """
    found = {(record["trial"], record["seed"], record["epoch"]): record for record in read_lines(folder / _FILE)}
    return [found[key] for key in sorted(found)]
