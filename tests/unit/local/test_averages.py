"""Which of MLAAN's averages move, and how fast."""

import pytest

from isograd.engine.blueprint import Blueprint
from isograd.local.ema import EMA, Frozen
from tests.runs import config


@pytest.mark.parametrize(
    ("ema", "decays"),
    [
        ("all", [0.9, 0.9, 0.9]),
        ("last", [None, None, 0.9]),
        ("last_twice", [0.9, 0.9, pytest.approx(0.81)]),
        ("none", [None, None, None]),
    ],
)
def test_averages_that_move(ema: str, decays: list[float | None]) -> None:
    options = ("method=mlaan", "method.mlm=false", f"method.ema={ema}", "method.decay=0.9")
    plan = Blueprint(config("model=resnet20", "partition.num_modules=4", *options))
    found = [
        part.decay if isinstance(part, EMA) else None
        for module in plan.method.local_modules(plan.partition, seed=0)
        for part in module.modules()
        if isinstance(part, Frozen)
    ]
    assert found == decays
