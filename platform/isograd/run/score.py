"""Whether a run has the score that judges it, by every evaluation while it trains."""

import math

from isograd.errors import NonFiniteScoreError
from isograd.events.events import EpochRecord, Event
from isograd.tasks.task import Score


class ScoreCheck:
    """Ends a run that has no finite score on a split that it is tested on; a sink.

    Args:
        num_modules: K; the last one's head predicts what the network does.
        score: By which the run is judged.
    """

    def __init__(self, num_modules: int, score: Score) -> None:
        self._module, self._score = num_modules - 1, score

    def take(self, event: Event) -> None:
        """Looks at one event. Raises NonFiniteScoreError."""
        if not isinstance(event, EpochRecord) or event.split == "train" or event.module != self._module:
            return
        value = event.values.get(self._score.metric, math.nan)
        if not math.isfinite(value):
            raise NonFiniteScoreError(
                f"the {event.split} {self._score.label} after epoch {event.epoch} is {value}, no finite number, over "
                f"{event.num_samples:,} samples",
                f"The run is judged by its '{self._score.metric}', and could be compared with no other",
                f"Use another {event.split} split, on which it is defined, or a lower optimizer.lr.",
            )
