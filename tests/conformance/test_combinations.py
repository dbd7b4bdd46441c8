"""Every method on every task by every executor trains, and agrees with one process, or is refused in three parts."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from isograd.executors.hosts import Hosts
from tests.conformance.combinations import Combination, all_combinations, table, written_table
from tests.runs import differences

ONE_MICROBATCH = ("executor.num_microbatches=1", "executor.schedule=gpipe")
WIDE = "precision.dtype=float64"


@cache
def sequential(method: str, task: str, *options: str) -> dict[str, Tensor]:
    return Combination(method, task, "sequential", options).train()


def start_processes(combination: Combination) -> bool:
    """Whether a combination starts pipelines of its own, which takes seconds each."""
    return combination.executor == "microbatch" and combination.task != "classification"


@pytest.mark.parametrize(
    "combination",
    [pytest.param(each, marks=pytest.mark.long if start_processes(each) else ()) for each in all_combinations()],
    ids=str,
)
def test_a_combination_agrees_with_one_process_or_is_refused(combination: Combination, actors: Hosts) -> None:
    refusal = combination.refusal()
    if refusal is not None:
        assert len(refusal.args) == 3 and all(refusal.args)
        return
    expected = sequential(combination.method, combination.task)
    if combination.is_exact:
        assert differences(expected, combination.train(actors)) == []
        return
    whole = replace(combination, options=ONE_MICROBATCH)
    assert whole.is_exact and differences(expected, whole.train()) == []
    if combination.sees_single_samples:
        wide, alone = replace(combination, options=(WIDE,)), sequential(combination.method, combination.task, WIDE)
        torch.testing.assert_close(wide.train(), alone, rtol=1e-9, atol=1e-12)
    else:
        assert combination.train().keys() == expected.keys()


def test_the_table_of_answers_is_the_one_that_is_written() -> None:
    assert written_table() == table()
