"""Every method on every task by every executor trains, and agrees with one process, or is refused in three parts."""

from functools import cache

import pytest
from torch import Tensor

from isograd.executors.hosts import Hosts
from tests.conformance.combinations import Combination, all_combinations, table, written_table
from tests.runs import differences


@cache
def sequential(method: str, task: str) -> dict[str, Tensor]:
    return Combination(method, task, "sequential").train()


@pytest.mark.parametrize("combination", all_combinations(), ids=str)
def test_a_combination_agrees_with_one_process_or_is_refused(combination: Combination, actors: Hosts) -> None:
    refusal = combination.refusal()
    if refusal is not None:
        assert len(refusal.args) == 3 and all(refusal.args)
        return
    expected, state = sequential(combination.method, combination.task), combination.train(actors)
    if combination.is_exact:
        assert differences(expected, state) == []
    else:
        # BatchNorm and dropout see microbatches; test_microbatch.py holds the numbers of a network without them
        assert expected.keys() == state.keys()
        assert all(tensor.isfinite().all() for tensor in state.values())


def test_the_table_of_answers_is_the_one_that_is_written() -> None:
    assert written_table() == table()
