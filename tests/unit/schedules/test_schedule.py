"""Schedules take the time that the literature says, in any size, and refuse what cannot run."""

import pytest

from isograd.errors import ConfigError, ContractError
from isograd.local.action import Action, Work
from isograd.local.exchange import Window
from isograd.schedules.local import Coupling, local_learning
from isograd.schedules.microbatch import MICROBATCH_SCHEDULES, Grid, microbatched
from isograd.schedules.schedule import Need, Schedule, short
from isograd.schedules.simulation import Contention, Link, simulate
from isograd.schedules.timeline import Timeline

STEP_S = 0.1
SHARES = {
    Work.FORWARD: 1 / 3,
    Work.BACKWARD: 2 / 3,
    Work.INPUT_GRADIENT: 1 / 3,
    Work.WEIGHT_GRADIENT: 1 / 3,
}


def chain(num_stages: int, **options: int) -> list[Coupling]:
    return [Coupling(**options) for _ in range(num_stages)]  # pyright: ignore[reportArgumentType]


def one_each(num_stages: int) -> list[range]:
    return [range(stage, stage + 1) for stage in range(num_stages)]


def simulated(schedule: Schedule, parts: int = 1, **options: Link | Contention) -> Timeline:
    schedule.check()
    return simulate(schedule, lambda action: STEP_S / parts * SHARES.get(action.work, 0.0), **options)  # pyright: ignore[reportArgumentType]


def microbatch_period(name: str, num_stages: int, num_microbatches: int, chunks: int = 1) -> float:
    schedule = microbatched(name, Grid(num_stages, num_microbatches, chunks), 6)
    return simulated(schedule, num_microbatches * chunks).period_s / STEP_S


@pytest.mark.parametrize("num_stages", [2, 4, 8])
@pytest.mark.parametrize("num_microbatches", [4, 8, 16])
def test_microbatch_schedules_have_the_bubbles_of_their_papers(num_stages: int, num_microbatches: int) -> None:
    bubble = (num_stages - 1) / num_microbatches
    for name in ("gpipe", "1f1b"):
        assert microbatch_period(name, num_stages, num_microbatches) == pytest.approx(1 + bubble)
    if num_microbatches % num_stages == 0:
        assert microbatch_period("interleaved", num_stages, num_microbatches, 2) == pytest.approx(1 + bubble / 2)
        assert microbatch_period("zero_bubble", num_stages, num_microbatches) == pytest.approx(1 + bubble / 3)


@pytest.mark.parametrize("name", list(MICROBATCH_SCHEDULES))
def test_every_microbatch_schedule_does_all_work_once(name: str) -> None:
    schedule = microbatched(name, Grid(4, 8), 2)
    schedule.check()
    backward = {Work.BACKWARD} if name != "zero_bubble" else {Work.INPUT_GRADIENT, Work.WEIGHT_GRADIENT}
    for rank, actions in enumerate(schedule.of_batch(1)):
        for work in (Work.FORWARD, *backward):
            assert sorted(action.part for action in actions if action.work is work) == list(range(8))
        assert actions[-1] == Action(Work.UPDATE, rank, 1)


def test_uneven_interleaving_is_refused() -> None:
    with pytest.raises(ConfigError, match="6 microbatches cannot be interleaved over 4 stages"):
        microbatched("interleaved", Grid(4, 6, 2), 1)


@pytest.mark.parametrize("num_stages", [1, 2, 4, 16])
def test_local_learning_runs_at_the_pace_of_its_slowest_stage(num_stages: int) -> None:
    timeline = simulated(local_learning(chain(num_stages), one_each(num_stages), 20, queue_depth=2))
    assert timeline.period_s == pytest.approx(STEP_S)
    assert timeline.bubble == pytest.approx(0, abs=1e-9)


def test_one_stage_with_all_modules_is_sequential() -> None:
    assert simulated(local_learning(chain(5), [range(5)], 8, queue_depth=2)).period_s == pytest.approx(5 * STEP_S)


def test_a_slow_link_bounds_the_period_and_latency_only_delays() -> None:
    schedule = local_learning(chain(3, output_bytes=1000), one_each(3), 20, queue_depth=2)
    assert simulated(schedule, link=Link(0.05, 1e9)).period_s == pytest.approx(STEP_S)
    assert simulated(schedule, link=Link(0, 5e3)).period_s == pytest.approx(0.2)


def test_a_full_queue_holds_the_stage_before_it() -> None:
    schedule = local_learning(chain(2), one_each(2), 12, queue_depth=1)

    def duration_s(action: Action) -> float:
        return SHARES.get(action.work, 0.0) * (0.1 if action.module == 0 else 1.0)

    first, last = simulate(schedule, duration_s).devices
    starts = {span.action: span.start_s for span in first + last}
    for step in range(3, 12):  # a batch's work after its send waits until the second one before it has been taken
        assert starts[Action(Work.LOSS, 0, step)] >= starts[Action(Work.FORWARD, 1, step - 2)] - 1e-9


def test_devices_that_share_cores_slow_each_other_down() -> None:
    schedule = local_learning(chain(2), one_each(2), 20, queue_depth=2)
    assert simulated(schedule, contention=Contention((1.6, 1.6))).period_s == pytest.approx(1.6 * STEP_S)

    def uneven_s(action: Action) -> float:
        return STEP_S * SHARES.get(action.work, 0.0) * (1.0 if action.module == 0 else 0.5)

    period_s = simulate(schedule, uneven_s, contention=Contention((1.6, 1.6))).period_s
    # while the second stage works (0.5 / rate), the first does as much; it does the rest alone
    assert period_s == pytest.approx(STEP_S * (0.5 * 1.6 + 0.5))


def test_a_cascade_couples_neighbours() -> None:
    """The first stage waits for the second one's gradient, which comes after that stage's forward pass and sweep."""
    first = Coupling(Window(passes={1: False}))
    second = Coupling(Window(sends=True), has_loss=False, has_cascade=True)
    schedule = local_learning([first, second], one_each(2), 10, queue_depth=2)
    schedule.check()
    seconds = {Work.FORWARD: 1.0, Work.CASCADE: 1.0, Work.CASCADE_BACKWARD: 2.0, Work.BACKWARD: 2.0}
    timeline = simulate(schedule, lambda action: seconds.get(action.work, 0.0))
    assert timeline.period_s == pytest.approx(
        1 + 1 + 1 + 2 + 2
    )  # forward, forward, loss, sweep, sweep: nothing overlaps


def test_a_thousand_stages_can_be_simulated() -> None:
    timeline = simulated(local_learning(chain(1024), one_each(1024), 32, queue_depth=2))
    assert timeline.period_s == pytest.approx(STEP_S)


def test_broken_schedules_are_refused() -> None:
    first, second = Action(Work.FORWARD, 0, 0), Action(Work.FORWARD, 1, 0)
    with pytest.raises(ContractError, match="scheduled twice"):
        Schedule("twice", ((first, first),), {}, 1).check()
    with pytest.raises(ContractError, match="No device does that"):
        Schedule("absent", ((first,),), {first: (Need(second),)}, 1).check()
    circle = Schedule("circle", ((first,), (second,)), {first: (Need(second),), second: (Need(first),)}, 1)
    with pytest.raises(ContractError, match="stands still before"):
        simulate(circle, lambda action: 1.0)


def test_a_schedule_prints_in_letters() -> None:
    schedule = local_learning(chain(2), [range(2)], 1, queue_depth=2)
    assert str(schedule) == "0: I0.0 F0.0 LL0.0 B0.0 U0.0 F1.0 LL1.0 B1.0 U1.0"
    assert short(Action(Work.CASCADE_BACKWARD, 1, 4, 2)) == "CB1.4/2"
