"""Modules that move between stages in the middle of a run leave no trace in its result."""

import pytest
import torch

from isograd.engine.blueprint import Blueprint
from isograd.engine.program import Program
from isograd.events.events import EpochRecord, Event, Position, Rebalanced, StageReport
from isograd.executors.executor import make_executor
from isograd.run.record import Tally
from isograd.run.spent import Account
from isograd.tasks.task import Score
from tests.runs import config, differences, program, source, trained

pytestmark = pytest.mark.usefixtures("ray_session")

OPTIONS = ("model=resnet20", "model.width=4", "partition.num_modules=5", "train.epochs=3")


@pytest.mark.parametrize(
    ("method", "channel"), [("dgl", "store"), pytest.param("mlaan", "collective", marks=pytest.mark.long)]
)
def test_moving_modules_changes_nothing(method: str, channel: str) -> None:
    blueprint = Blueprint(
        config(
            f"method={method}",
            *OPTIONS,
            "executor.num_stages=2",
            "executor.modules_per_stage=[4,1]",
            "executor.rebalance=auto",
            f"executor.channel={channel}",
        )
    )
    run = program(blueprint, num_epochs=3)
    with make_executor(blueprint) as executor:
        events = list(executor.fit(run))
        found = executor.state()
    moves = [event for event in events if isinstance(event, Rebalanced)]
    assert moves[0].before == (4, 1) and moves[0].after[0] < 4
    assert moves[0].slowest_before_s > 1.1 * moves[0].slowest_after_s
    _check_reports(events, run, blueprint.task.score)
    alone = trained(f"method={method}", *OPTIONS, "executor=sequential", num_epochs=3)
    assert not differences(found, alone)


def _check_reports(events: list[Event], run: Program, score: Score) -> None:
    """All parts of the run count: steps, epochs, modules."""
    tally, account = Tally(5, score, "test"), Account(0, ())
    for event in events:
        tally.take(event)
        account.take(event)
    record = tally.record(account.legs, account.stages, checkpoint=None, fingerprint="", hardware="")
    assert record.spent[-1].num_samples == sum(
        event.num_samples for event in events if isinstance(event, StageReport) and event.stage == 1
    )
    assert [stage["num_steps"] for stage in record.stages] == [run.num_steps] * 2
    assert list(record.by_epoch()) == [1, 2, 3]
    assert sum(isinstance(event, StageReport) for event in events) == 2 * len(list(run.parts()))
    assert {event.module for event in events if isinstance(event, EpochRecord)} == set(range(5))


def test_a_balanced_pipeline_stays_as_it_is() -> None:
    blueprint = Blueprint(
        config(*OPTIONS, "partition.num_modules=2", "executor.num_stages=2", "executor.rebalance=auto")
    )
    with make_executor(blueprint) as executor:
        assert not any(isinstance(event, Rebalanced) for event in executor.fit(program(blueprint, num_epochs=2)))


def test_a_program_in_parts_is_the_program() -> None:
    whole = Program(source(), num_epochs=6, start=Position(2, 3, 14), evaluates=False, snapshot_epochs=1)
    parts = list(whole.parts())
    assert [part.last_epoch for part in parts] == [2, 3, 5, 6]
    device = torch.device("cpu")
    of_parts = [item for part in parts for item in part.messages(device)]
    messages = [item for item in of_parts if item.kind.value != "end"]
    expected = [item for item in whole.messages(device) if item.kind.value != "end"]
    assert [(item.kind, item.epoch, item.number, item.step) for item in messages] == [
        (item.kind, item.epoch, item.number, item.step) for item in expected
    ]
