"""The recorded runs, and the searches that are compared on them."""

from statistics import median

import pytest

from isograd.bench.replay import Recorded, grid, key, read, read_errors, replay_request, train
from isograd.bench.search import num_trials
from isograd.run.experiment import prepare

RECORDED = read()


def test_every_configuration_of_the_space_is_recorded() -> None:
    assert {key(settings) for settings in grid(replay_request())} == read_errors().keys()


def test_errors_are_shares_of_what_was_counted() -> None:
    """143 of the digits are held out of those to train on, and are what a search sees."""
    source = prepare(replay_request().base).program.source
    assert {(runs.split, runs.num_samples) for runs in RECORDED.values()} == {("valid", source.num_valid)}
    assert all(0 <= wrong <= runs.num_samples for runs in RECORDED.values() for wrong in runs.wrong)
    assert Recorded("test", 360, (36, 72)).error == pytest.approx(0.15)


def test_what_is_recorded_are_real_runs() -> None:
    """Within what another processor's rounding does to so short a run; on the same one it is equal."""
    request = replay_request()
    settings = next(settings for settings in grid(request) if settings["partition.ends"] == ["layer3.0", "layer3.1"])
    assert train(request, settings, (0,)).error == pytest.approx(RECORDED[key(settings)].error, abs=0.15)


def test_the_default_search_needs_a_quarter_of_chances_trials() -> None:
    errors = read_errors().values()
    num_good = sum(error <= 1.02 * min(errors) for error in errors)
    assert num_good <= 2  # among so few of the 405, chance does not find one soon
    chance = len(errors) * (1 - 0.5 ** (1 / num_good))  # median of where the first of them comes in a random order
    assert median(num_trials("auto", seed) for seed in range(5)) <= chance / 4
