"""Importances: what matters comes first, what does not is nothing."""

from pathlib import Path

import numpy as np
import pytest

from isograd.errors import StudyError
from isograd.studies.importance import importances
from isograd.studies.study import StudyTable
from tests.unit.studies.studies import UNITS, study, trial


def searched(folder: Path, num_trials: int = 30, noise: float = 0.01) -> StudyTable:
    """The error depends on the decay, where there is one, a little on the cut, and on nothing else."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(num_trials):
        has_decay = number % 3 > 0
        decay, lr, cut = generator.uniform(0.5, 0.999), generator.uniform(0.01, 1), int(generator.integers(1, 5))
        error = 0.2 + 0.5 * (decay - 0.5) * has_decay + 0.02 * cut + noise * generator.uniform()
        values = {"optimizer.lr": lr, "kind": "ema" if has_decay else "none"}
        values |= {"1 - method.decay": 1 - decay} if has_decay else {}
        rows.append(trial(number, ((error,),), values=values, ends=(UNITS[cut],)))
    return study(folder, *rows)


def test_what_matters_comes_first(tmp_path: Path) -> None:
    found = importances(searched(tmp_path))
    assert found.num_trials == 30 and found.outcome == "valid error" and 0.6 < found.r2 < 1
    means = {each.name: each.mean for each in found.values}
    assert next(iter(means)) == "method.decay" and means["method.decay"] > 0.4 and means["partition.ends"] > 0.02
    assert abs(means["optimizer.lr"]) < 0.1 and means["partition.num_modules"] == 0.0  # always 2
    assert importances(searched(tmp_path)) == found


def test_a_forest_that_has_learnt_nothing_says_so(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    rows = [trial(n, ((generator.uniform(),),), values={"optimizer.lr": generator.uniform(0.1, 1)}) for n in range(20)]
    assert importances(study(tmp_path, *rows)).r2 < 0.2


def test_too_few_trials_or_one_outcome_are_explained(tmp_path: Path) -> None:
    pruned = trial(99, ((0.5,),), kind="pruned")
    rows = [trial(number, ((0.1 * number,),)) for number in range(7)]
    with pytest.raises(StudyError, match="7 complete trials are too few for importances: 8 at least"):
        importances(study(tmp_path, *rows, pruned))
    with pytest.raises(StudyError, match="all 8 complete trials came to the same valid error"):
        importances(study(tmp_path, *(trial(number) for number in range(8))))
