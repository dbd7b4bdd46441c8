"""How many trials a search needs, on recorded runs: the same for everyone, and none of them is trained again."""

import itertools
from collections.abc import Sequence
from statistics import median

from optuna.trial import TrialState

from isograd.bench.bench import BENCHES
from isograd.bench.replay import key, read_errors, replay_request
from isograd.bench.rows import Row
from isograd.tune.proposer import Proposer

_SAMPLERS, _NUM_SEEDS, _QUICK_SEEDS = ("gp", "tpe"), 20, 3
_MARGIN = 1.02  # of the best


@BENCHES.register("search")
def bench(quick: bool, overrides: Sequence[str]) -> list[Row]:
    """Counts the trials until one is within 2 % of the best of all, by sampler: medians over seeds.

    Random search, which proposes nothing twice either, is measured beside it. Overrides are of `isograd tune`: how it
    searches, such as ``tune.num_startup=5``; a sampler leaves out the others.
    """
    only = next((item.partition("=")[2] for item in overrides if item.startswith("tune.sampler=")), None)
    seeds = range(_QUICK_SEEDS if quick else _NUM_SEEDS)
    samplers = ("random", *((only,) if only else _SAMPLERS))
    rows, random = [], 0.0
    for place, sampler in enumerate(samplers):
        case = f"{sampler}, {len(read_errors())} recorded configurations, {len(seeds)} seeds"
        count = median(num_trials(sampler, seed, overrides) for seed in seeds)
        rows.append(Row(case, "trials to within 2 % of the best, median", count, "trials"))
        if place:
            rows.append(Row(case, "of what random search needs", count / random, "x"))
        else:
            random = count
    return rows


def num_trials(sampler: str, seed: int, overrides: Sequence[str] = ()) -> int:
    """Returns after how many trials a search has one within 2 % of the best."""
    errors = read_errors()
    good = _MARGIN * min(errors.values())
    proposer = Proposer(replay_request(*overrides, f"tune.sampler={sampler}", f"tune.sampler_seed={seed}"), [], {})
    for number in itertools.count():
        drawn = proposer.draw(number)
        assert drawn is not None, "what is searched has a best configuration"
        error = errors[key(drawn.settings)]
        if error <= good:
            return number + 1
        proposer.tell(number, TrialState.COMPLETE, [error])
    raise AssertionError("unreachable")
