"""Keeps what a run's stages recorded, and writes it beside what was planned."""

import json
from dataclasses import dataclass, field

from isograd.engine.blueprint import Blueprint
from isograd.events.events import Event, StageTimeline
from isograd.planning.plan import forecast
from isograd.run.folder import RunFolder
from isograd.schedules.drawing import Beside, merged
from isograd.schedules.timeline import Timeline
from isograd.system.files import write_atomically


@dataclass
class TimelineKeeper:
    """A sink for recorded spans: of a run in several parts, those of the last one.

    Attributes:
        planned: What was forecast.
    """

    planned: Timeline
    _found: dict[int, StageTimeline] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Takes one event."""
        if isinstance(event, StageTimeline):
            self._found[event.stage] = event

    def write(self, folder: RunFolder) -> str:
        """Writes ``timeline.json`` for Perfetto and ``timeline.png``; returns the sentence that explains them."""
        stages = [self._found[stage] for stage in sorted(self._found)]
        beside = Beside(merged([(stage.spans, stage.clock_offset_s) for stage in stages]), self.planned)
        write_atomically(folder.path / "timeline.json", json.dumps(beside.trace()))
        beside.draw(folder.path / "timeline.png")
        return beside.sentence()


def planned(blueprint: Blueprint) -> Timeline:
    """Returns what a run of the blueprint should look like, by measured costs."""
    return forecast(blueprint).timeline
