"""What the events of a run folder say of the run until a step."""

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from isograd.events.events import EpochRecord
from isograd.events.json_lines import read_lines
from isograd.system.files import write_atomically


def read_epochs(events: Path, step: int) -> Iterator[EpochRecord]:
    """Yields what was measured at the ends of epochs up to ``step``."""
    names = {item.name for item in fields(EpochRecord)}
    for record in _records(events, step):
        if record.get("event") == "EpochRecord":
            yield EpochRecord(**{key: value for key, value in record.items() if key in names})


def drop_events_after(events: Path, step: int) -> None:
    """Forgets what the run that is resumed did after its checkpoint: it happens again."""
    if events.exists():
        lines = [json.dumps(record) for record in _records(events, step)]
        write_atomically(events, "".join(f"{line}\n" for line in lines))


def _records(events: Path, step: int) -> Iterator[dict[str, Any]]:
    """Yields the events up to ``step``."""
    return (record for record in read_lines(events) if record.get("step", 0) <= step)
