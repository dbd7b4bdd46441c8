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
    """The digits have 360 samples to test on, and 143 are held out of those to train on."""
    source = prepare(replay_request().base).program.source
    counts = {"test": source.num_test, "valid": source.num_valid}
    assert {(runs.split, runs.num_samples) for runs in RECORDED.values()} <= set(counts.items())
    assert all(0 <= wrong <= runs.num_samples for runs in RECORDED.values() for wrong in runs.wrong)
    assert Recorded("test", 360, (36, 72)).error == pytest.approx(0.15)


@pytest.mark.skipif(
    {runs.split for runs in RECORDED.values()} != {"valid"},
    reason="replay.csv is to be recorded again: it counts test samples, not validation samples",
)
def test_what_is_recorded_are_real_runs() -> None:
    """Within what another processor's rounding does to so short a run; on the same one it is equal."""
    request = replay_request()
    settings = next(settings for settings in grid(request) if settings["partition.ends"] == ["layer3.0", "layer3.1"])
    assert train(request, settings, (0,)).error == pytest.approx(RECORDED[key(settings)].error, abs=0.15)


def test_the_default_search_needs_a_quarter_of_chances_trials() -> None:
    errors = read_errors().values()
    assert sum(error <= 1.02 * min(errors) for error in errors) == 1
    chance = (len(errors) + 1) / 2  # median of where one of so many comes in a random order
    assert median(num_trials("auto", seed) for seed in range(5)) <= chance / 4
