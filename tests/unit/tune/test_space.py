"""Every split can be drawn, and no other; what is drawn can be found again."""

import itertools
from collections import Counter

import optuna
import pytest

from isograd.errors import PartitionError
from isograd.tune.space import Categorical, Cuts, Ground, Number, Site, ends_to_shares, shares_to_ends


def site(options: dict[str, object] | None = None, num_modules: int = 4) -> Site:
    return Site(Ground(options or {}, lambda settings: num_modules, lambda settings: tuple("abcdefgh")))


def study(seed: int = 0) -> optuna.Study:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))


@pytest.mark.parametrize(("num_units", "num_modules"), [(5, 1), (5, 2), (5, 5), (8, 4), (11, 3), (17, 16)])
def test_every_split_has_shares_that_lead_to_it(num_units: int, num_modules: int) -> None:
    for ends in itertools.combinations(range(1, num_units), num_modules - 1):
        assert shares_to_ends(ends_to_shares(ends, num_units), num_units) == list(ends)


def test_splits_are_equally_likely_and_all_valid() -> None:
    drawn = Counter()
    asked, count = study(), 7000
    for _ in range(count):
        drawn[tuple(Cuts().draw(asked.ask(), "partition.ends", site()))] += 1
    assert set(drawn) == set(itertools.combinations("abcdefg", 3))
    expected = count / len(drawn)
    assert sum((found - expected) ** 2 / expected for found in drawn.values()) < 75  # chi squared, 34 degrees: p > 1e-4


def test_the_ends_of_shares_are_valid() -> None:
    for shares in itertools.product((0.0, 0.5, 1.0), repeat=3):
        ends = shares_to_ends(shares, 8)
        assert ends == sorted(set(ends)) and ends[0] >= 1 and ends[-1] <= 7


def test_more_modules_than_units_are_refused() -> None:
    with pytest.raises(PartitionError, match="9 local modules were drawn for a backbone of 8 units"):
        Cuts().draw(study().ask(), "partition.ends", site(num_modules=9))


def test_each_number_of_modules_has_coordinates_of_its_own() -> None:
    asked = study()
    two, three = asked.ask(), asked.ask()
    Cuts().draw(two, "partition.ends", site(num_modules=2))
    Cuts().draw(three, "partition.ends", site(num_modules=3))
    assert not two.params.keys() & three.params.keys()


@pytest.mark.parametrize(
    "distribution",
    [
        Number(0.9, 0.9999, complement=True),
        Number(1, 64, integer=True, log=True),
        Number(0.0, 1.0, step=0.25),
        Number(2, 8, integer=True),
    ],
)
def test_a_number_stays_in_its_range_and_starts_where_the_options_are(distribution: Number) -> None:
    asked = study()
    values = [distribution.draw(asked.ask(), "x", site()) for _ in range(200)]
    assert all(distribution.low <= value <= distribution.high for value in values)
    for value in values[:20]:
        found, coordinates = distribution.start("x", site({"x": value}))
        asked.enqueue_trial(coordinates)
        assert distribution.find_value("x", coordinates) == pytest.approx(value, rel=1e-12)
        assert found == value and distribution.draw(asked.ask(), "x", site()) == pytest.approx(value, rel=1e-12)
    assert distribution.start("x", site({"x": 1e9}))[1] == {} and distribution.find_value("x", {}) is None


def test_shares_near_one_are_drawn_on_the_scale_of_what_is_missing() -> None:
    asked = study()
    values = [Number(0.9, 0.9999, complement=True).draw(asked.ask(), "x", site()) for _ in range(600)]
    thirds = Counter(int(-(next(i for i in range(1, 5) if 1 - value >= 10.0**-i * 0.999999))) for value in values)
    assert min(thirds[-index] for index in (2, 3, 4)) > 150


def test_a_categorical_sets_several_options() -> None:
    bias = Categorical({"off": {"a": 1}, "scaled": {"a": 2, "b": "s"}})
    assert bias.settings("bias", "scaled") == {"a": 2, "b": "s"}
    assert bias.start("bias", site({"a": 2, "b": "s"})) == ("scaled", {"bias": "scaled"})
    assert bias.start("bias", site({"a": 3})) == (None, {})
