"""What methods with cascade windows (HPFF, MLAAN) have in common."""

from collections.abc import Sequence

from isograd.errors import ConfigError
from isograd.local.exchange import Window
from isograd.partition.partition import Partition


def check_window(size: int, partition: Partition) -> None:
    """Raises ConfigError where a window has fewer than two modules, or more than there are."""
    num_modules = partition.num_modules
    if size < 2 or (1 < num_modules < size):
        raise ConfigError(
            f"method.window={size} does not fit {num_modules} local modules",
            "A cascade loss trains so many adjacent modules at once: at least two, and no more than there are",
            f"Use method.window={min(max(size, 2), max(num_modules, 2))}, or more local modules.",
        )


def check_level_weights(weights: Sequence[float]) -> None:
    """Raises ConfigError unless there is a weight for each of the two levels."""
    if len(weights) != 2:
        raise ConfigError(
            f"method.level_weights={list(weights)} has {len(weights)} values",
            "There are two levels: independent and cascade",
            "Use method.level_weights=[0.001,0.999], for example.",
        )


def num_passes(partition: Partition, index: int, window: Window) -> list[int]:
    """Counts, unit by unit, the forward passes of the released codes, of which we need one.

    A module runs once for its independent loss, and once in each window that it is part of; the stem runs once.
    """
    count = 1 + window.sends + len(window.passes)
    counts = [count] * len(partition.units(index))
    if index == 0:
        counts[0] = 1
    return counts
