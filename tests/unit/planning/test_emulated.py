"""Emulated pieces take the time that they are given, in the parts that zero-bubble schedules tell apart."""

import pytest
import torch

from isograd.local.module import Given, LocalModule
from isograd.planning.emulated import EmulatedPieces

PIECES = EmulatedPieces((0.3, 0.2, 0.4), (2**12, 2**13, 2**14), batch_size=8)


def pieces(*units: range) -> list[LocalModule]:
    return [learner.module for learner in PIECES(units, torch.device("cpu"))]


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Lets nobody sleep, and remembers who wanted to."""
    durations: list[float] = []
    monkeypatch.setattr("isograd.planning.emulated.time.sleep", durations.append)
    return durations


def test_a_piece_takes_and_sends_a_microbatch_s_share_of_its_units(slept: list[float]) -> None:
    _, later = pieces(range(0, 1), range(1, 3))
    value = torch.zeros(2, 2**12 // 4 // 8, requires_grad=True)  # a quarter of the batch: 0.15 s
    feature = later({"x": value})["x"]
    assert feature.shape == (2, 2**14 // 4 // 8)
    assert slept == pytest.approx([0.05])
    gradient, (weight,) = torch.zeros_like(feature), later.parameters()
    torch.autograd.grad(feature, value, gradient, retain_graph=True)
    assert slept == pytest.approx([0.05] * 2)
    torch.autograd.grad(feature, weight, gradient)
    assert slept == pytest.approx([0.05] * 3)


def test_the_first_piece_has_all_its_backward_time_in_its_weights(slept: list[float]) -> None:
    (first,) = pieces(range(0, 1))
    feature = first({"image": torch.zeros(4, 1, 8, 8, dtype=torch.uint8)})["x"]
    feature.backward(torch.zeros_like(feature))
    assert slept == pytest.approx([0.05, 0.1])


def test_the_emulated_loss_is_a_number_whatever_is_in_memory() -> None:
    (last,) = pieces(range(2, 3))
    feature = torch.full((4, 8), torch.nan, requires_grad=True)
    loss = last.objective({"x": feature}, Given({})).loss
    assert isinstance(loss, torch.Tensor) and loss == 0
    loss.backward()
    assert feature.grad is not None and feature.grad.shape == feature.shape
