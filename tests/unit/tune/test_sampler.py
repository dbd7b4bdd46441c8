"""The sampler that judges whole configurations: what it draws, what it learns, and what it makes of early stops."""

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FixedTrial, TrialState

from isograd.errors import PartitionError
from isograd.tune.sampler import RandomTrial, SpaceSampler, UntriedSampler, estimate_values
from isograd.tune.space import Categorical, Cuts, Ground, Number, Parameter, SearchSpace
from isograd.tune.surrogate import Surrogate

UNITS = tuple(f"u{index}" for index in range(8))
GROUND = Ground({}, lambda settings: settings.get("partition.num_modules", 3), lambda settings: UNITS)
SPACE = SearchSpace(
    (
        Parameter("kind", Categorical({"plain": {"kind": "plain"}, "rich": {"kind": "rich"}})),
        Parameter("rate", Number(1e-4, 1.0, log=True)),
        Parameter("decay", Number(0.5, 0.999, complement=True), {"kind": ("rich",)}),
        Parameter("width", Number(2, 8, integer=True, step=2)),
        Parameter("partition.ends", Cuts()),
    )
)


def value_of(settings: dict[str, Any]) -> float:
    """A known landscape: best are rich, a rate of 0.01, a decay near 0.99, cuts after u1 and u5."""
    error = abs(np.log10(settings["rate"]) + 2) + (0 if settings["kind"] == "rich" else 1)
    error += abs(np.log10(1 - settings.get("decay", 0.5)) + 2) / 2
    ends = [UNITS.index(end) for end in settings["partition.ends"]]
    return 0.1 + float(error + (abs(ends[0] - 1) + abs(ends[1] - 5)) / 4)


def search(
    sampler: BaseSampler,
    count: int,
    value_of: Callable[[dict[str, Any]], float] = value_of,
    direction: StudyDirection = StudyDirection.MINIMIZE,
) -> optuna.Study:
    study = optuna.create_study(sampler=sampler, direction=direction)
    for _ in range(count):
        trial = study.ask()
        settings = SPACE.suggest(trial, GROUND)
        trial.set_user_attr("settings", settings)
        study.tell(trial, value_of(settings))
    return study


@pytest.mark.parametrize("make", [RandomTrial, lambda random: RandomTrial(random, {"rate": 0.9, "width": 8})])
def test_drawings_stay_in_their_ranges(make: Callable[[Random], RandomTrial]) -> None:
    random = Random(0)
    widths = set()
    for _ in range(300):
        drawing = make(random)
        settings, features = SPACE.describe(drawing, GROUND)
        assert drawing.params.keys() == drawing.distributions.keys()
        for name, drawn in drawing.params.items():
            distribution = drawing.distributions[name]
            assert distribution._contains(distribution.to_internal_repr(drawn))
        assert ("decay" in settings) == (settings["kind"] == "rich") == ("decay" in features)
        assert all(0 <= number <= 1 for block in features.values() for number in block)
        widths.add(settings["width"])
    assert widths <= {2, 4, 6, 8} and 8 in widths and len(widths) > 1


def test_a_drawing_again_is_the_same_and_one_near_it_is_near() -> None:
    random = Random(1)
    first = RandomTrial(random)
    settings, features = SPACE.describe(first, GROUND)
    assert SPACE.describe(FixedTrial(first.params), GROUND) == (settings, features)
    rate = first.params["rate"]
    near = [SPACE.suggest(RandomTrial(random, first.params), GROUND)["rate"] for _ in range(50)]
    assert np.mean(np.abs(np.log10(near) - np.log10(rate))) < 1 < 4  # the range has four decades


def test_the_surrogate_finds_out_what_matters() -> None:
    random = np.random.default_rng(0)
    known = [{"matters": (float(a),), "idle": (float(b),)} for a, b in random.random((30, 2))]
    values = [0.2 + abs(features["matters"][0] - 0.4) for features in known]
    surrogate = Surrogate()
    candidates = [{"matters": (place,), "idle": (0.5,)} for place in (0.0, 0.4, 0.9)]
    for count in range(10, 30, 2):
        surrogate.expected_improvement(known[:count], values[:count], candidates)
    expected = surrogate.expected_improvement(known, values, candidates)
    assert expected.argmax() == 1 and (expected >= 0).all()
    assert surrogate._scales["matters"] < surrogate._scales["idle"] - 1


def test_equal_values_and_one_that_is_under_way_are_no_obstacle() -> None:
    known = [{"x": (0.1,)}, {"x": (0.1,)}, {"y": (0.3, 0.4)}]
    expected = Surrogate().expected_improvement(known, [0.0, 0.0, None], [{"x": (0.9,)}])
    assert np.isfinite(expected).all()


def test_it_searches_better_than_chance() -> None:
    found = [search(SpaceSampler(SPACE, GROUND, seed, 8), 30).best_value for seed in range(5)]
    chance = [search(RandomSampler(seed), 120).best_value for seed in range(5)]
    assert np.median(found) < np.median(chance)


def test_it_proposes_nothing_twice_and_the_same_again_for_the_same_seed() -> None:
    first, second = (search(SpaceSampler(SPACE, GROUND, 3, 5), 20) for _ in range(2))
    settings = [str(trial.user_attrs["settings"]) for trial in first.trials]
    assert len(set(settings)) == 20
    assert settings == [str(trial.user_attrs["settings"]) for trial in second.trials]


def test_a_score_of_which_more_is_better_is_searched_alike() -> None:
    less = search(SpaceSampler(SPACE, GROUND, 3, 5), 12, lambda settings: value_of(settings) - 100)
    sampler = SpaceSampler(SPACE, GROUND, 3, 5, lambda score: -score)
    more = search(sampler, 12, lambda settings: 100 - value_of(settings), StudyDirection.MAXIMIZE)
    assert [trial.params for trial in less.trials] == [trial.params for trial in more.trials]


@pytest.mark.parametrize(
    "make",
    [lambda space: UntriedSampler(space, GROUND, 0), lambda space: SpaceSampler(space, GROUND, 0, 3)],
    ids=["at random", "by the surrogate"],
)
def test_all_of_a_space_is_tried_before_the_draws_are_left_to_chance(
    make: Callable[[SearchSpace], BaseSampler],
) -> None:
    space = SearchSpace((Parameter("width", Number(1, 300, integer=True)), Parameter("partition.ends", Cuts())))
    few = SearchSpace((Parameter("width", Number(1, 15, integer=True)), Parameter("partition.ends", Cuts())))
    assert len(drawn(make(space), space, 40)) == 40
    assert len(drawn(make(few), few, 15 * 21 + 2)) == 15 * 21


def drawn(sampler: BaseSampler, space: SearchSpace, count: int) -> set[str]:
    study = optuna.create_study(sampler=sampler)
    found = set()
    for _ in range(count):
        trial = study.ask()
        settings = space.suggest(trial, GROUND)
        found.add(str(settings))
        study.tell(trial, settings["width"])
    return found


def test_a_drawing_that_leads_nowhere_is_passed_over() -> None:
    def refuse(settings: dict[str, Any]) -> int:
        raise PartitionError("none", "none", "none")

    nowhere = Ground({}, refuse, lambda settings: UNITS)
    sampler = SpaceSampler(SearchSpace((Parameter("partition.ends", Cuts()),)), nowhere, 0, 1)
    study = optuna.create_study(sampler=sampler)
    assert sampler.infer_relative_search_space(study, study.ask()._cached_frozen_trial) == {}


def test_what_was_stopped_early_is_taken_for_what_others_made_of_it() -> None:
    study = optuna.create_study()
    for last in (0.2, 0.4):
        trial = study.ask()
        trial.report(2 * last, 3)
        study.tell(trial, last)
    trial = study.ask()
    trial.report(0.9, 3)
    study.tell(trial, state=TrialState.PRUNED)
    study.ask()
    assert estimate_values(study.trials) == [0.2, 0.4, pytest.approx(0.45), None]
