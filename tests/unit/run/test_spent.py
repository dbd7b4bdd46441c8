"""What the legs of a run took, from the events of stages that are not at one position at once."""

from isograd.events.events import Position, ReportSoFar, StageReport
from isograd.run.spent import Account, Spent


def report(stage: int, num_steps: int) -> StageReport:
    times = (float(num_steps), float(num_steps), 0.0, 0.0, 0.0)
    return StageReport(stage, (stage,), "cpu", num_steps, 10 * num_steps, *times, peak_bytes=stage, sent_bytes=0)


def test_a_checkpoint_has_what_was_spent_until_its_position() -> None:
    earlier = Spent(0, 40, 4.0, 5.0, 10.0, 7)
    account = Account(4, [earlier])
    early, late = Position(step=6), Position(step=8)
    for event in (
        ReportSoFar(early, report(1, 2)),  # the last stage is ahead, and has ended before the first comes to a position
        ReportSoFar(late, report(1, 4)),
        report(1, 4),
        ReportSoFar(early, report(0, 2)),
        ReportSoFar(late, report(0, 4)),
        report(0, 4),
    ):
        account.take(event)
    for position, num_samples in ((early, 20), (late, 40)):
        legs = account.legs_until(position)
        assert legs[0] == earlier and (legs[1].start, legs[1].num_samples) == (4, num_samples)
        assert legs[1].device_s == 2 * legs[1].wall_s > 0 and legs[1].peak_bytes == 1
    assert account.legs[1].num_samples == 40 and [stage.stage for stage in account.stages] == [0, 1]


def test_the_parts_of_a_rebalanced_run_are_one_leg() -> None:
    account, position = Account(0, ()), Position(step=5)
    for event in (report(0, 3), ReportSoFar(position, report(0, 2)), report(0, 4)):
        account.take(event)
    assert account.legs_until(position)[0].num_samples == 50 and account.legs[0].num_samples == 70
