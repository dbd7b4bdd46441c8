"""What happens when a stage dies, is slow, or cannot be had. Real actors, real kills."""

import os
import signal

import pytest

from isograd.cluster import placement
from isograd.cluster.config import ClusterConfig, Demand
from isograd.data.synthetic import tiny_source
from isograd.engine.blueprint import Blueprint
from isograd.engine.program import Program
from isograd.errors import NonFiniteLossError, PlacementError, StageFailedError
from isograd.events.events import Progress, StageReport
from isograd.executors.pipeline.config import PipelinedConfig
from isograd.executors.pipeline.pipeline import Pipeline
from isograd.planning.emulated import EmulatedBuilder
from tests.processes import nothing_left, wait_until
from tests.runs import config, program


def emulated(*step_s: float, queue_depth: int = 2, activation_bytes: int = 2**16) -> Pipeline:
    builders = [EmulatedBuilder(index, seconds, activation_bytes) for index, seconds in enumerate(step_s)]
    executor = PipelinedConfig(device="cpu", queue_depth=queue_depth, event_interval_s=0.02)
    return Pipeline(builders, executor, ClusterConfig(), records_steps=True)


def steps(count: int) -> Program:
    return Program(tiny_source(count), num_epochs=1, evaluates=False)


@pytest.mark.parametrize(
    ("victim", "num_stages"),
    [pytest.param(1, 3, id="in the middle"), pytest.param(1, 2, id="the last", marks=pytest.mark.long)],
)
def test_a_killed_stage_ends_the_run_and_leaves_nothing(ray_session: None, victim: int, num_stages: int) -> None:
    process_ids: list[int] = []
    last = 0
    with pytest.raises(StageFailedError, match=rf"stage {victim} died at about step \d+") as failure:
        with emulated(*[0.01] * num_stages) as pipeline:
            process_ids = pipeline.process_ids()
            for event in pipeline.fit(steps(2000)):
                if isinstance(event, Progress):
                    if last <= 20 < event.step:
                        os.kill(process_ids[victim], signal.SIGKILL)
                    last = max(last, event.step)
    assert 20 < last < 1999
    assert "isograd resume" in str(failure.value)
    assert wait_until(lambda: nothing_left(process_ids))


def test_a_loss_that_is_not_a_number_stops_the_run_and_names_the_module(ray_session: None) -> None:
    blueprint = Blueprint(config("model=resnet20", "optimizer.lr=1e25", "executor.num_stages=2"))
    from isograd.executors.pipelined import make_pipeline

    with pytest.raises(NonFiniteLossError, match=r"module that ends in \S+ is (nan|inf) at step \d+"):
        with make_pipeline(blueprint) as pipeline:
            for _ in pipeline.fit(program(blueprint)):
                pass


@pytest.mark.parametrize("queue_depth", [1, pytest.param(3, marks=pytest.mark.long)])
def test_a_slow_stage_holds_the_others_back(ray_session: None, queue_depth: int) -> None:
    with emulated(0.001, 0.03, queue_depth=queue_depth) as pipeline:
        events = list(pipeline.fit(steps(40)))
    reports = {event.stage: event for event in events if isinstance(event, StageReport)}
    fast, slow = reports[0].step_ends_s, reports[1].step_ends_s
    # Step i of the fast stage can only end once the slow one has begun step i - queue_depth - 2, hence ended the one
    # before: one message is handed over, one is being sent, queue_depth wait.
    lead = queue_depth + 3
    assert all(fast[step] >= slow[step - lead] for step in range(lead, 40))


def test_more_stages_than_devices_is_said_at_once(ray_session: None) -> None:
    with pytest.raises(PlacementError, match=r"9 stages need 9 CPUs; the cluster has 8 CPUs .* room for 8"):
        with emulated(*[0.01] * 9):
            pass


def test_devices_that_others_hold_are_named(ray_session: None) -> None:
    taken = placement.reserved(5, Demand("cpu"), ClusterConfig())
    with taken, pytest.raises(PlacementError, match=r"5 stages need 5 CPUs; free are 3 CPUs"):
        with emulated(*[0.01] * 5):
            pass


def test_a_pipeline_can_run_again(ray_session: None) -> None:
    with emulated(0.001, 0.001) as pipeline:
        for _ in range(3):
            reports = [event for event in pipeline.fit(steps(10)) if isinstance(event, StageReport)]
            assert [report.num_steps for report in reports] == [10, 10]
