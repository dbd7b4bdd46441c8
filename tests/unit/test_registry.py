"""What a name that is not known may have been meant for."""

import pytest

from isograd.config.load import groups
from isograd.config.override import option_names
from isograd.registry import closest


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("lr", "optimizer.lr"),
        ("optimizer.learning_rate", "optimizer.lr"),
        ("learning_rate", "optimizer.lr"),
        ("optimizer.wd", "optimizer.weight_decay"),
        ("optimizer.momentun", "optimizer.momentum"),
        ("optimizer.foo", None),
        ("optimzer.lr", "optimizer.lr"),
        ("batch", "data.batch_size"),
        ("train.num_epochs", "train.epochs"),
        ("stages", "executor.num_stages"),
        ("seeds", "seed"),
        ("verbose", None),
    ],
)
def test_an_option_is_suggested_that_means_the_same(typed: str, meant: str | None) -> None:
    known = groups()
    assert closest(typed, [*option_names(known), *known]) == meant
