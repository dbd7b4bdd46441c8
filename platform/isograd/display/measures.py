"""How figures are called and written: what a run is judged by, and what it takes in memory and time."""

from collections.abc import Mapping
from dataclasses import dataclass

from isograd.tasks.task import Score

ABSENT = "-"
SCORE, BEST_SCORE, TEST_SCORE = "score", "best_score", "test_score"  # of a trial, whatever its task is judged by


@dataclass(frozen=True)
class Measure:
    """How a figure is written, and which of two is better.

    Attributes:
        label: What it is.
        unit: As it is written behind it; empty where it has none.
        scale: What a value is multiplied by to be in that unit.
        form: Of the number.
        higher_is_better: Its direction.
    """

    label: str
    unit: str = ""
    scale: float = 1.0
    form: str = ",.2f"
    higher_is_better: bool = False

    @classmethod
    def of(cls, score: Score, split: str, suffix: str = "") -> "Measure":
        """Returns how a score on a split is written, such as ``valid error``."""
        label = f"{split} {score.label or score.metric}{suffix}"
        return cls(label, score.unit, score.scale, ".2f", score.higher_is_better)

    @property
    def axis(self) -> str:
        """The label with its unit, for an axis or the head of a column."""
        return f"{self.label}, {self.unit}" if self.unit else self.label

    @property
    def title(self) -> str:
        """The label as a sentence begins with it."""
        return self.label[:1].upper() + self.label[1:]

    @property
    def better(self) -> str:
        """Which values are better: ``smaller`` or ``larger``."""
        return "larger" if self.higher_is_better else "smaller"

    def in_unit(self, value: float) -> float:
        """Returns a value in the unit."""
        return self.scale * value

    def cost(self, value: float) -> float:
        """Returns a number that is smaller where the value is better."""
        return -value if self.higher_is_better else value

    def number(self, value: float | None) -> str:
        """Returns a value in the unit as text, without the unit."""
        return ABSENT if value is None else format(self.scale * value, self.form)

    def text(self, value: float | None) -> str:
        """Returns a value with its unit."""
        return f"{self.number(value)} {self.unit}".rstrip()


RESOURCES: Mapping[str, Measure] = {
    "peak_bytes": Measure("peak memory of a stage", "MiB", 2**-20, ",.0f"),
    "epoch_s": Measure("training time of an epoch", "s"),
    "train_s": Measure("training and test time of all seeds", "s"),
    "wall_s": Measure("time from start to end", "s"),
}
METRICS = (SCORE, BEST_SCORE, TEST_SCORE, *RESOURCES)
SPEED = Measure("training speed", "samples/s", form=",.0f", higher_is_better=True)


def measures_of(score: Score, split: str) -> dict[str, Measure]:
    """Returns how the metrics of a trial are written, by name.

    Args:
        score: Of its task.
        split: On which it is judged.
    """
    return {
        SCORE: Measure.of(score, split),
        BEST_SCORE: Measure.of(score, split, " of the best epoch"),
        TEST_SCORE: Measure.of(score, "test"),
        **RESOURCES,
    }
