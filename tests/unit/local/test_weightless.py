"""What is built without weights is what is built with them, and costs no random numbers."""

import torch
from torch import nn

from isograd.engine.blueprint import Blueprint
from isograd.local.weightless import weightless
from tests.runs import config


def test_modules_are_those_with_weights() -> None:
    blueprint = Blueprint(config("method=mlaan", "model=resnet20", "model.width=4", "partition.num_modules=3"))
    checked = blueprint.check()
    built = blueprint.method.local_modules(blueprint.partition, seed=0)
    for without, full in zip(checked, built, strict=True):
        shapes = {name: value.shape for name, value in full.objective.state_dict().items()}
        assert {name: value.shape for name, value in without.objective.state_dict().items()} == shapes
        assert all(value.is_meta for value in without.objective.parameters())


def test_nothing_is_drawn_and_other_tensors_are_filled() -> None:
    before = torch.get_rng_state()
    with weightless():
        layer = nn.Linear(3, 4)
        nn.init.trunc_normal_(layer.weight)
        real = torch.zeros(2, device="cpu")
        nn.init.constant_(real, 3.0)
        real.add_(torch.ones(2, device="cpu").fill_(2.0))
    assert layer.weight.is_meta and layer.weight.requires_grad and layer.weight.shape == (4, 3)
    assert real.tolist() == [5.0, 5.0] and torch.equal(torch.get_rng_state(), before)
