"""Losses of trials: one an event, and no try on a node that is just dying."""

from isograd.tune.losses import Loss, Losses


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
