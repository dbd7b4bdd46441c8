"""Whether a run has the score that judges it: by its task before it trains, by every evaluation while it does."""

import math

import torch

from isograd.data.field import draw
from isograd.errors import NonFiniteScoreError, TaskError
from isograd.events.events import EpochRecord, Event
from isograd.tasks.task import Score, Task

_NUM_SAMPLES = 1  # of random predictions: a metric of them means nothing, only its name counts


def check_score(task: Task) -> None:
    """Measures random predictions of a task. Raises TaskError where its score is none of its metrics."""
    generator, metrics = torch.Generator().manual_seed(0), task.metrics(torch.device("cpu"))
    targets = task.synthetic(_NUM_SAMPLES, generator).targets
    prediction = {name: draw(field, _NUM_SAMPLES, generator) for name, field in task.output.items()}
    metrics.update(prediction, targets, _NUM_SAMPLES)
    known = metrics.compute()
    if task.score.metric not in known:
        raise TaskError(
            f"task={task.config.name} is judged by '{task.score.metric}', which is none of its {len(known)} metrics",
            f"They are {', '.join(known) or 'none'}, and a run without a score could not be compared",
            "Name one of them in the task's score, or compute that metric.",
        )


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
