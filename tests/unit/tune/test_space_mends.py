"""What is typed wrongly of a search space: what the error recommends works when it is typed."""

import re
import shlex

import pytest

from isograd.errors import ConfigError
from isograd.tune.request import parse


@pytest.mark.parametrize(
    ("item", "mend"),
    [
        ("space.lr.low=0.1", "space.optimizer.lr.low=0.1"),
        ("space.learning_rate.low=0.02", "space.optimizer.lr.low=0.02"),
        ("space.optimizer.lr.low 0.02", "space.optimizer.lr.low=0.02"),
        ("space.method.auxilary.values=[mlp]", "space.method.auxiliary.values=[mlp]"),
        ("space.method.auxiliary.value=[mlp]", "space.method.auxiliary.values=[mlp]"),
        ("space.method.auxiliary.when={optimizer: sgd}", "'+space.method.auxiliary.when={optimizer: sgd}'"),
        (
            "space.data.padding={distribution: int, low: 0, high: 1}",
            "'+space.data.padding={distribution: int, low: 0, high: 1}'",
        ),
        ("~space.method.auxilary", "~space.method.auxiliary"),
    ],
)
def test_a_mend_of_a_space_works_when_typed(item: str, mend: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse("dgl", [item])
    assert re.match(rf"Use {re.escape(mend)}(\.$|,| to)", refused.value.mend), refused.value.mend
    parse("dgl", shlex.split(mend))


@pytest.mark.parametrize("item", ["space.method.foo.low=3", "space.foo=3"])
def test_what_is_like_no_parameter_is_added_by_a_whole_one(item: str) -> None:
    with pytest.raises(ConfigError, match=r"\+space\.OPTION=\{distribution: float, low: LOW, high: HIGH\}"):
        parse("dgl", [item])
    parse("dgl", ["+space.task.label_smoothing={distribution: float, low: 0, high: 0.1}"])
