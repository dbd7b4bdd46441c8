"""Early stopping: ASHA by epochs of the full schedule (Li et al., "A System for Massively Parallel Hyperparameter
Tuning", MLSys 2020).

Every trial trains under the learning-rate schedule of its whole length. At certain epochs it goes on only if it is
among the best 1/reduction of those that have come so far.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from isograd.tune.sweep_config import SweepConfig


def stops(config: SweepConfig, num_epochs: int) -> list[int]:
    """Returns the epochs at which a trial reports and may be stopped; the last is that of its full length."""
    found = []
    epoch = config.grace_epochs
    while config.scheduler == "asha" and epoch < num_epochs:
        found.append(epoch)
        epoch *= config.reduction
    return [*found, num_epochs]


def make_scheduler(config: SweepConfig, num_epochs: int, earlier: Mapping[int, Mapping[int, float]]) -> TrialScheduler:
    """Returns Tune's scheduler.

    Args:
        config: Which one.
        num_epochs: Of a trial's full length.
        earlier: Trial -> test error by epoch, of the trials of a sweep that goes on: they set the bar as before.
    """
    if config.scheduler == "none" or config.grace_epochs >= num_epochs:
        return FIFOScheduler()
    scheduler = ASHAScheduler(
        time_attr="epoch",
        metric="test_error",
        mode="min",
        max_t=num_epochs,
        grace_period=config.grace_epochs,
        reduction_factor=config.reduction,
    )
    for number, errors in earlier.items():
        for epoch in stops(config, num_epochs)[:-1]:
            if epoch in errors:
                scheduler._brackets[0].on_result(cast(Any, _Earlier(f"earlier-{number}")), epoch, -errors[epoch])
    return scheduler


@dataclass(frozen=True)
class _Earlier:
    """What a bracket asks of a trial."""

    trial_id: str
