"""Schedules are the recipes' formulas."""

import math

import pytest
from torch import nn

from isograd.local.learner import build_optimizer
from isograd.local.optimizer import AdamW, Constant, Cosine, CosineSteps, Place, Steps, WarmupCosine, each_lr


def test_warmup_cosine_starts_at_its_floor_and_ends_at_zero() -> None:
    schedule = WarmupCosine()
    assert schedule.lr(0.8, Place(1, 400)) == pytest.approx(0.01)
    assert schedule.lr(0.8, Place(400, 400)) == pytest.approx(0, abs=1e-12)
    assert schedule.lr(0.8, Place(11, 400)) == pytest.approx(0.4 * (1 + math.cos(math.pi * 11 / 400)))
    blended = 0.4 * (1 + math.cos(math.pi * 4 / 400)) * 3 / 10 + 0.01 * 7 / 10
    assert schedule.lr(0.8, Place(4, 400)) == pytest.approx(blended)


def test_cosine_without_warmup_starts_at_the_peak() -> None:
    assert Cosine().lr(0.4, Place(1, 90)) == 0.4
    assert Cosine().lr(0.4, Place(90, 90)) > 0


def test_steps_drop_every_fifteen_epochs() -> None:
    assert [Steps().lr(0.1, Place(epoch, 50)) for epoch in (15, 16, 31)] == pytest.approx([0.1, 0.02, 0.004])


def test_cosine_by_steps_warms_up_and_falls_to_the_end() -> None:
    schedule = CosineSteps(warmup_steps=4)
    rates = list(each_lr(schedule, 0.8, num_epochs=3, num_steps=12))
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4:] == pytest.approx([0.4 * (1 + math.cos(math.pi * step / 8)) for step in range(8)])
    assert CosineSteps(warmup_steps=0).lr(0.8, Place(1, 1, 0, 10)) == 0.8
    assert list(each_lr(Constant(), 0.8, num_epochs=3, num_steps=12)) == [0.8] * 3


def test_only_matrices_decay_where_asked_for() -> None:
    module = nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    decays = {
        weight: group["weight_decay"]
        for group in build_optimizer(AdamW(weight_decay=0.1, decays="matrices"), module).param_groups
        for weight in group["params"]
    }
    assert [decays[weight] for weight in module.parameters()] == [0, 0, 0, 0.1, 0]
    (group,) = build_optimizer(AdamW(weight_decay=0.1), module).param_groups
    assert group["weight_decay"] == 0.1
