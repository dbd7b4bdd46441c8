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


def spread(values: Iterable[float]) -> Spread | None:
    """Returns mean and spread of the values, or None where there are none."""
    found = list(values)
    if not found:
        return None
    return Spread(statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else None, len(found))


def differences(values: Mapping[int, float], baseline: Mapping[int, float]) -> list[float]:
    """Returns value minus baseline for each seed that both have, in the order of the seeds."""
    return [values[seed] - baseline[seed] for seed in sorted(values.keys() & baseline.keys())]


def ratios(values: Mapping[int, float], baseline: Mapping[int, float]) -> list[float]:
    """Returns value over baseline for each seed that both have, a baseline of 0 excepted."""
    shared = sorted(values.keys() & baseline.keys())
    return [values[seed] / baseline[seed] for seed in shared if baseline[seed]]
