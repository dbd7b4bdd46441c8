"""Which stage hosts which units, and which numbers a schedule can have."""

import pytest
from torch.distributed.pipelining._utils import generate_stage_to_rank_mapping

from isograd.errors import ConfigError, PartitionError
from isograd.executors.microbatch.config import MicrobatchConfig
from isograd.executors.microbatch.plan import PiecePlan, plan_pieces
from isograd.schedules.microbatch import PIPELINE_SCHEDULES


def plan(schedule: str, num_stages: int = 2, num_microbatches: int = 8, num_units: int = 16, **options) -> PiecePlan:
    config = MicrobatchConfig(schedule=schedule, num_microbatches=num_microbatches, num_stages=num_stages)
    config.chunks = options.pop("chunks", None)
    return plan_pieces(config, num_units, **options)


def test_pieces_go_round_the_stages_or_down_and_up() -> None:
    assert [plan("1f1b", 3).pieces(stage) for stage in range(3)] == [(0,), (1,), (2,)]
    assert [plan("interleaved", 3).pieces(stage) for stage in range(3)] == [(0, 3), (1, 4), (2, 5)]
    assert [plan("zbv", 3).pieces(stage) for stage in range(3)] == [(0, 5), (1, 4), (2, 3)]
    assert plan("zero_bubble", 2, chunks=3).pieces(1) == (1, 3, 5)


@pytest.mark.parametrize("schedule", PIPELINE_SCHEDULES)
@pytest.mark.parametrize("num_stages", [1, 2, 3, 4])
def test_stages_host_what_torch_expects(schedule: str, num_stages: int) -> None:
    found = plan(schedule, num_stages)
    style = "v" if PIPELINE_SCHEDULES[schedule].is_v else "loop"
    expected = generate_stage_to_rank_mapping(num_stages, found.num_pieces, style)
    assert {piece: found.stage_of(piece) for piece in range(found.num_pieces)} == expected


def test_cuts_are_even_or_as_asked() -> None:
    assert plan("interleaved", num_units=11).ends == (3, 6, 9, 11)
    given = plan("interleaved", num_units=11, ends=[1, 2, 4, 11])
    assert [given.units(piece) for piece in range(4)] == [range(0, 1), range(1, 2), range(2, 4), range(4, 11)]


@pytest.mark.parametrize(
    ("schedule", "size", "parts"),
    [
        ("1f1b", 128, 8),
        ("1f1b", 80, 8),
        ("1f1b", 29, 1),  # a prime
        ("1f1b", 7, 1),  # not 7 of a single image
        ("gpipe", 12, 6),
        ("gpipe", 15, 5),
        ("interleaved", 15, 3),  # 5 are no two equal rounds of two stages
        ("zbv", 1, 1),
    ],
)
def test_a_smaller_last_batch_is_split_into_fewer_equal_parts(schedule: str, size: int, parts: int) -> None:
    assert plan(schedule, 2).microbatches_of(size) == parts


def test_a_batch_of_one_part_is_no_1f1b() -> None:
    assert plan("1f1b").schedule_of(1) == "gpipe"
    assert plan("1f1b").schedule_of(2) == "1f1b"
    assert plan("zero_bubble").schedule_of(1) == "zero_bubble"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"schedule": "1f1b", "num_stages": 4, "num_microbatches": 2}, "Use executor.num_microbatches=4"),
        ({"schedule": "interleaved", "num_stages": 4, "num_microbatches": 9}, "in 2 equal rounds. Use .*=10"),
        ({"schedule": "zbv", "chunks": 1}, "It has 2 a stage"),
        ({"schedule": "interleaved", "chunks": 1}, "It has at least 2 a stage"),
        ({"schedule": "gpipe", "chunks": 2}, "2 stages with 2 pieces each do not go with executor.schedule=gpipe"),
    ],
)
def test_numbers_that_a_schedule_cannot_have_are_refused(options: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_stages": 9}, "cannot spread 16 units over 9 stages with 2 pieces each.* Use executor.num_stages=8"),
        ({"num_stages": 0}, "cannot spread 16 units over 0 stages"),
        ({"ends": [4, 8, 16]}, r"ends \[4, 8, 16\] do not cut 16 units into 4 pieces"),
        ({"ends": [4, 8, 8, 16]}, "Ends must increase"),
    ],
)
def test_cuts_that_do_not_fit_are_refused(options: dict, said: str) -> None:
    with pytest.raises(PartitionError, match=said):
        plan("interleaved", **options)


def test_a_batch_that_m_does_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"batch_size=20 .* 8 equal .*num_microbatches=5, or data.batch_size=24"):
        plan("gpipe").check_batch_size(20)
