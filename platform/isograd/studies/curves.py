"""Learning curves with a band: what is drawn of several runs of one configuration."""

from dataclasses import dataclass

from isograd.studies.statistics import Spread


@dataclass(frozen=True)
class Curve:
    """Test error by epoch over the seeds of an entry, in percent."""

    label: str
    epochs: tuple[int, ...]
    errors: tuple[Spread, ...]


def band(curve: Curve) -> tuple[list[float], list[float]]:
    """Returns the lower and the upper edge of a curve's band, one standard deviation from the mean; none below 0."""
    deviations = [error.deviation or 0.0 for error in curve.errors]
    low = [max(0.0, error.mean - deviation) for error, deviation in zip(curve.errors, deviations, strict=True)]
    return low, [error.mean + deviation for error, deviation in zip(curve.errors, deviations, strict=True)]
