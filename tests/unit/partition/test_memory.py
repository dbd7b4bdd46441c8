"""Memory that autograd keeps is counted once, and no longer than it is kept."""

import torch
from torch import nn

from isograd.bench.methods import Case, Contender, _speed, compose
from isograd.partition.memory import SavedBytes

SMALL = ("model=resnet20", "model.width=4", "data.batch_size=8")


def test_saved_tensors_count_until_they_are_freed() -> None:
    value, weight = torch.randn(8, 4, requires_grad=True), nn.Parameter(torch.randn(4, 4))
    with SavedBytes([weight]) as saved:
        hidden = (value @ weight).sin()  # keeps value (for the weight) and the product
        assert saved.live_bytes == 2 * 8 * 4 * 4
        output = hidden.cos().sum()
        assert saved.live_bytes == saved.peak_bytes == 3 * 8 * 4 * 4
        output.backward()
        assert saved.live_bytes == 0
        hidden = None
        value.exp().sum().backward()
    assert saved.peak_bytes == 3 * 8 * 4 * 4


def test_local_learning_keeps_less_than_end_to_end_training() -> None:
    cuts = ("partition.num_modules=9",)
    configs = compose(*SMALL, "method=e2e"), compose(*SMALL, "method=dgl", *cuts)
    with Contender(configs[0], 1) as e2e, Contender(configs[1], 1) as dgl:
        assert 0 < dgl.saved_bytes() < 0.4 * e2e.saved_bytes()


def test_the_benchmark_of_methods_compares_with_end_to_end_training() -> None:
    rows = _speed(Case("hpff", ("method=hpff",), ""), True, SMALL)
    found = {row.metric: row.value for row in rows}
    assert set(found) == {
        *("step", "step time over plain e2e", "step time over e2e"),
        *("saved bytes over e2e", "saved bytes a sample"),
    }
    assert found["step"] > 0 and 0 < found["saved bytes over e2e"] < 1
