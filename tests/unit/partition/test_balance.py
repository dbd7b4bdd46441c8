"""The dynamic programme finds what trying everything finds, and keeps to its limits."""

import itertools
import random
from collections.abc import Iterator, Sequence

import pytest

from isograd.errors import PartitionError
from isograd.partition.balance import Limits, Piece, balanced

NO_LIMIT = float("inf")


def cost(pieces: Sequence[Piece], ends: Sequence[int], stages: Sequence[range], limits: Limits) -> float:
    """The period of an assignment, spelt out; infinite where a stage does not fit."""
    period_s = 0.0
    for stage, (modules, speed) in enumerate(zip(stages, limits.speeds, strict=True)):
        slices = [pieces[(0, *ends)[module] : ends[module]] for module in modules]
        seconds = sum(sum(piece.seconds for piece in part) + part[-1].cut_seconds for part in slices)
        state = sum(sum(piece.state_bytes for piece in part) + part[-1].cut_state_bytes for part in slices)
        peak = max(sum(piece.activation_bytes for piece in part) + part[-1].cut_activation_bytes for part in slices)
        arrives = pieces[(0, *ends)[modules[0]] - 1].output_bytes if stage else 0
        if state + peak + limits.queued_messages * arrives > limits.memory_bytes:
            return NO_LIMIT
        period_s = max(period_s, seconds / speed, arrives / limits.link_bytes_per_s)
    return period_s


def assignments(num_pieces: int, num_modules: int, num_stages: int) -> Iterator[tuple[tuple[int, ...], list[range]]]:
    for cuts in itertools.combinations(range(1, num_pieces), num_modules - 1):
        for firsts in itertools.combinations(range(1, num_modules), num_stages - 1):
            starts = (0, *firsts, num_modules)
            yield (*cuts, num_pieces), [range(*pair) for pair in itertools.pairwise(starts)]


def problem(seed: int) -> tuple[list[Piece], int, Limits]:
    draw = random.Random(seed)
    num_pieces = draw.randint(2, 9)
    num_modules = draw.randint(1, num_pieces)
    num_stages = draw.randint(1, min(num_modules, 4))
    pieces = [
        Piece(1 + draw.randint(0, 20), *(draw.randint(0, most) for most in (8, 30, 20, 5, 40, 30)))
        for _ in range(num_pieces)
    ]
    speeds = tuple(draw.choice((1.0, 1.0, 2.0, 0.5)) for _ in range(num_stages))
    return pieces, num_modules, Limits(speeds, draw.choice((NO_LIMIT, 2.0)), draw.choice((NO_LIMIT, 130, 170)), 2)


@pytest.mark.parametrize("seed", range(200))
def test_it_is_as_good_as_trying_everything(seed: int) -> None:
    pieces, num_modules, limits = problem(seed)
    best = min(cost(pieces, *found, limits) for found in assignments(len(pieces), num_modules, len(limits.speeds)))
    if best == NO_LIMIT:
        with pytest.raises(PartitionError, match="no way to cut"):
            balanced(pieces, num_modules, limits)
        return
    found = balanced(pieces, num_modules, limits)
    assert found.period_s == pytest.approx(best)
    assert cost(pieces, found.ends, found.stages, limits) == pytest.approx(best)


def test_auxiliary_networks_weigh() -> None:
    """Cutting in the middle would be even, but the auxiliary network there is expensive."""
    pieces = [Piece(1.0, cut) for cut in (0.1, 5.0, 0.1, 0.0)]
    assert balanced(pieces, 2, Limits((1.0, 1.0))).ends in ((1, 4), (3, 4))


def test_a_faster_device_gets_more() -> None:
    found = balanced([Piece(1.0)] * 9, 2, Limits((1.0, 2.0)))
    assert found.ends == (3, 9) and found.period_s == pytest.approx(3.0)


def test_a_memory_limit_moves_the_cut() -> None:
    pieces = [Piece(1.0, activation_bytes=100)] * 2 + [Piece(1.0, activation_bytes=10)] * 4
    assert balanced(pieces, 2, Limits((1.0, 1.0))).ends == (3, 6)
    assert balanced(pieces, 2, Limits((1.0, 1.0), memory_bytes=205)).ends == (2, 6)


def test_the_error_says_what_would_be_needed() -> None:
    with pytest.raises(PartitionError, match=r"The largest unit alone needs 3 MiB .* Use more stages"):
        balanced([Piece(1.0, state_bytes=3 * 2**20)] * 4, 2, Limits((1.0, 1.0), memory_bytes=2**20))


def test_a_deep_network_can_be_balanced() -> None:
    draw = random.Random(0)
    pieces = [Piece(draw.random(), 0.2 * draw.random()) for _ in range(56)]
    found = balanced(pieces, 16, Limits((1.0,) * 4))
    seconds = sum(piece.seconds for piece in pieces)
    assert len(found.ends) == 16 and seconds / 4 <= found.period_s < seconds / 2
