"""A study on Ray Tune: ASHA by epochs of the full schedule, and losses of trials, one an event."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import FIFOScheduler

from isograd.display.measures import Measure
from isograd.tune.search import Losses, make_scheduler
from isograd.tune.sweep_config import SweepConfig
from isograd.tune.trial import Loss

ERROR, PSNR = Measure("valid error", "%", 100.0), Measure("valid PSNR", "dB", higher_is_better=True)


@pytest.mark.parametrize(
    ("options", "num_epochs", "expected"),
    [
        ({}, 9, [1, 3, 9]),
        ({}, 10, [1, 3, 9, 10]),
        ({"grace_epochs": 5, "reduction": 2}, 40, [5, 10, 20, 40]),
        ({"scheduler": "none"}, 40, [40]),
        ({"grace_epochs": 50}, 40, [40]),
    ],
)
def test_trials_report_where_they_may_be_stopped(options: dict[str, Any], num_epochs: int, expected: list[int]) -> None:
    assert SweepConfig(**options).stops(num_epochs) == expected


def decision(scheduler: Any, name: str, epoch: int, error: float) -> str:
    trial = SimpleNamespace(trial_id=name)
    scheduler.on_trial_add(None, trial)
    return scheduler.on_trial_result(None, trial, {"epoch": epoch, "score": error})


@pytest.mark.parametrize(("measure", "scores"), [(ERROR, (0.5, 0.6, 0.4, 0.9)), (PSNR, (30.0, 29.0, 31.0, 20.0))])
def test_who_is_behind_at_the_same_epoch_is_stopped(measure: Measure, scores: tuple[float, ...]) -> None:
    scheduler = make_scheduler(SweepConfig(), measure, 9, {})
    assert [decision(scheduler, f"{index}", 1, score) for index, score in enumerate(scores)] == [
        *("CONTINUE", "STOP", "CONTINUE", "STOP")
    ]


def test_trials_of_a_sweep_that_goes_on_set_the_bar_as_before() -> None:
    earlier = {0: {1: 0.3, 2: 0.25, 3: 0.2}, 1: {1: 0.4}}
    scheduler = make_scheduler(SweepConfig(), ERROR, 9, earlier)
    assert decision(scheduler, "late", 1, 0.5) == "STOP"
    assert decision(scheduler, "good", 1, 0.2) == "CONTINUE"
    assert decision(make_scheduler(SweepConfig(), ERROR, 9, {}), "late", 1, 0.5) == "CONTINUE"


def test_without_it_every_trial_trains_to_its_end() -> None:
    assert isinstance(make_scheduler(SweepConfig(scheduler="none"), ERROR, 9, {}), FIFOScheduler)


def test_the_death_of_a_process_counts_each_time() -> None:
    losses = Losses(2, lambda node: True)
    assert [losses.take(5, Loss("killed")) for _ in range(3)] == [True, True, False]
    assert losses.take(6, Loss("killed")), "each trial has its own"


def test_the_death_of_a_node_counts_once_however_much_fails_on_it() -> None:
    losses = Losses(1, lambda node: True)
    assert all(losses.take(5, Loss("lost", "a")) for _ in range(10))
    assert not losses.take(5, Loss("lost", "b"))


def test_nothing_starts_until_it_is_known_which_nodes_are_there() -> None:
    settled: set[str] = set()
    losses = Losses(3, settled.__contains__)
    assert losses.may_start
    losses.take(5, Loss("lost", "a"))
    losses.take(6, Loss("lost", "b"))
    settled.add("a")
    assert not losses.may_start
    settled.add("b")
    assert losses.may_start
