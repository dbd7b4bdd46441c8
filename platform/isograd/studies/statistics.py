"""Mean and spread over seeds, and differences between runs of the same seed."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Values in one figure.

    Attributes:
        mean: Of the values.
        deviation: Sample standard deviation (over n - 1); None for a single value, which has no spread.
        num_values: n.
    """

    mean: float
    deviation: float | None
    num_values: int

    def scale(self, factor: float) -> "Spread":
        """Returns the spread in another unit."""
        deviation = None if self.deviation is None else factor * self.deviation
        return Spread(factor * self.mean, deviation, self.num_values)


def spread(values: Iterable[float | None]) -> Spread | None:
    """Returns mean and spread of the values that are there, or None where none is."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    return Spread(statistics.fmean(present), statistics.stdev(present) if len(present) > 1 else None, len(present))


def differences(values: Mapping[int, float], baseline: Mapping[int, float]) -> list[float]:
    """Returns value minus baseline for each seed that both have, in the order of the seeds."""
    return [values[seed] - baseline[seed] for seed in sorted(values.keys() & baseline.keys())]


def ratios(values: Mapping[int, float], baseline: Mapping[int, float]) -> list[float]:
    """Returns value over baseline for each seed that both have, a baseline of 0 excepted."""
    shared = sorted(values.keys() & baseline.keys())
    return [values[seed] / baseline[seed] for seed in shared if baseline[seed]]
