"""How a study's metrics are called and counted on an axis."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """Attributes:
    label: With its unit.
    factor: What a value is multiplied by to be in that unit.
    """

    label: str
    factor: float


MEASURES = {
    "test_error": Measure("test error, %", 100),
    "best_test_error": Measure("test error of the best epoch, %", 100),
    "peak_bytes": Measure("peak memory of a stage, MiB", 2**-20),
    "epoch_s": Measure("training time of an epoch, s", 1),
    "train_s": Measure("training and test time of all seeds, s", 1),
    "wall_s": Measure("time from start to end, s", 1),
}
