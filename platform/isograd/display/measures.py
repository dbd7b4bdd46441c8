"""How figures are called and written: the one place that says what runs are judged by, and in which unit."""

from dataclasses import dataclass

ABSENT = "-"


@dataclass(frozen=True)
class Measure:
    """How a figure is written.

    Attributes:
        label: What it is.
        unit: As it is written behind it.
        factor: What a value is multiplied by to be in that unit.
        form: Of the number.
    """

    label: str
    unit: str
    factor: float = 1.0
    form: str = ",.2f"

    @property
    def axis(self) -> str:
        """The label with its unit, for an axis or the head of a column."""
        return f"{self.label}, {self.unit}"

    def scale(self, value: float) -> float:
        """Returns a value in the unit."""
        return self.factor * value

    def cost(self, value: float) -> float:
        """Returns a number that is smaller where the value is better; of all these, that is the value itself."""
        return value

    def number(self, value: float | None) -> str:
        """Returns a value in the unit as text, without the unit."""
        return ABSENT if value is None else format(self.factor * value, self.form)

    def text(self, value: float) -> str:
        """Returns a value with its unit."""
        return f"{self.number(value)} {self.unit}"


SCORE, BEST_SCORE = "test_error", "best_test_error"  # what runs are judged by: a share in [0, 1]
MEASURES = {
    SCORE: Measure("test error", "%", 100, ".2f"),
    BEST_SCORE: Measure("test error of the best epoch", "%", 100, ".2f"),
    "peak_bytes": Measure("peak memory of a stage", "MiB", 2**-20, ",.0f"),
    "epoch_s": Measure("training time of an epoch", "s"),
    "train_s": Measure("training and test time of all seeds", "s"),
    "wall_s": Measure("time from start to end", "s"),
}
SPEED = Measure("training speed", "images/s", form=",.0f")


def write_accuracy(error: float | None) -> str:
    """Returns the accuracy in percent that goes with an error, a share."""
    return ABSENT if error is None else f"{100 * (1 - error):.2f}"
