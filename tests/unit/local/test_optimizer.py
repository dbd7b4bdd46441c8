"""Schedules are the recipes' formulas."""

import math

import pytest

from isograd.local.optimizer import Cosine, Steps, WarmupCosine


def test_warmup_cosine_starts_at_its_floor_and_ends_at_zero() -> None:
    schedule = WarmupCosine()
    assert schedule.lr(0.8, 1, 400) == pytest.approx(0.01)
    assert schedule.lr(0.8, 400, 400) == pytest.approx(0, abs=1e-12)
    assert schedule.lr(0.8, 11, 400) == pytest.approx(0.4 * (1 + math.cos(math.pi * 11 / 400)))
    blended = 0.4 * (1 + math.cos(math.pi * 4 / 400)) * 3 / 10 + 0.01 * 7 / 10
    assert schedule.lr(0.8, 4, 400) == pytest.approx(blended)


def test_cosine_without_warmup_starts_at_the_peak() -> None:
    assert Cosine().lr(0.4, 1, 90) == 0.4
    assert Cosine().lr(0.4, 90, 90) > 0


def test_steps_drop_every_fifteen_epochs() -> None:
    assert [Steps().lr(0.1, epoch, 50) for epoch in (15, 16, 31)] == pytest.approx([0.1, 0.02, 0.004])
