"""Emulated pieces take the time that they are given, in the parts that zero-bubble schedules tell apart."""

import time
from collections.abc import Callable

import pytest
import torch
from isograd.bench.emulated import EmulatedPieces
from isograd.local.module import LocalModule

PIECES = EmulatedPieces((0.3, 0.2, 0.4), (2**12, 2**13, 2**14), batch_size=8)


def pieces(*units: range) -> list[LocalModule]:
    return [learner.module for learner in PIECES(units, torch.device("cpu"))]


def seconds(work: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    work()
    return time.perf_counter() - started_s


def test_a_piece_takes_and_sends_a_microbatch_s_share_of_its_units() -> None:
    _, later = pieces(range(0, 1), range(1, 3))
    value = torch.zeros(2, 2**12 // 4 // 8, requires_grad=True)  # a quarter of the batch: 0.15 s
    feature = later(value)
    assert feature.shape == (2, 2**14 // 4 // 8)
    assert seconds(lambda: later(value)) == pytest.approx(0.05, abs=0.03)
    gradient, (weight,) = torch.zeros_like(feature), later.parameters()
    input_s = seconds(lambda: torch.autograd.grad(feature, value, gradient, retain_graph=True))
    weight_s = seconds(lambda: torch.autograd.grad(feature, weight, gradient))
    assert input_s == pytest.approx(0.05, abs=0.03)
    assert weight_s == pytest.approx(0.05, abs=0.03)


def test_the_first_piece_has_all_its_backward_time_in_its_weights() -> None:
    (first,) = pieces(range(0, 1))
    feature = first(torch.zeros(4, 1, 8, 8, dtype=torch.uint8))
    assert seconds(lambda: feature.backward(torch.zeros_like(feature))) == pytest.approx(0.1, abs=0.04)


def test_the_emulated_loss_is_a_number_whatever_is_in_memory() -> None:
    (last,) = pieces(range(2, 3))
    feature = torch.full((4, 8), torch.nan, requires_grad=True)
    loss = last.objective(feature, torch.zeros(4), None).loss
    assert isinstance(loss, torch.Tensor) and loss == 0
    loss.backward()
    assert feature.grad is not None and feature.grad.shape == feature.shape
