"""Pipelines that carry gradients: as good as one process, whatever the schedule, and as quick to say what failed."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from isograd.cluster.config import ClusterConfig
from isograd.config.load import load
from isograd.data.batch import Batch
from isograd.data.synthetic import source, tiny_source
from isograd.engine.blueprint import Blueprint
from isograd.engine.program import Program
from isograd.errors import (
    ConfigError,
    ExchangeError,
    IsogradError,
    NonFiniteLossError,
    PartitionError,
    StageFailedError,
)
from isograd.events.events import EpochRecord, Progress, StageReport
from isograd.executors.executor import check, make_executor
from isograd.executors.microbatch.config import MicrobatchConfig
from isograd.executors.microbatch.executor import make_microbatch_pipeline
from isograd.executors.microbatch.pipeline import MicrobatchPipeline
from isograd.executors.microbatch.plan import PiecePlan, plan_pieces
from isograd.executors.microbatch.stage import shared
from isograd.local.learner import Learner
from isograd.planning.emulated import EmulatedPieces
from isograd.run import checkpoint
from isograd.run.experiment import execute, prepare, prepare_resumed, run
from isograd.schedules.microbatch import PIPELINE_SCHEDULES
from isograd.tasks.language import VALID
from isograd.tasks.task import TASKS, Task
from tests.processes import is_running, wait_until
from tests.runs import config, differences, program

FOUR = ("executor=microbatch", "executor.num_stages=2", "executor.num_microbatches=4")
E2E = ("method=e2e", "lr_schedule=constant")
VIT = (*E2E, "model=vit_ti", "model.width=48", "model.patch_size=8", "optimizer.lr=0.05", "precision.clip_norm=0.5")
RESNET = (*E2E, "model=resnet20", "model.width=4", "optimizer.lr=0.01")
NUM_STEPS = 12  # an epoch, whose last batch is smaller, and one step of the next


def rearranged(pipeline: MicrobatchPipeline, blueprint: Blueprint, schedule: str, **options: object) -> PiecePlan:
    executor = MicrobatchConfig.of(blueprint.config.executor, schedule=schedule, **options)
    plan = plan_pieces(executor, len(blueprint.backbone.units))
    pipeline.arrange(plan)
    return plan


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=1e-5, atol=2e-6, msg=lambda text, name=name: f"{name} {text}"
        )


@pytest.fixture(scope="module")
def vit(ray_session: None) -> Iterator[tuple[MicrobatchPipeline, Blueprint]]:
    blueprint = Blueprint(config(*VIT, *FOUR))
    with make_microbatch_pipeline(blueprint, records_steps=True) as pipeline:
        yield pipeline, blueprint


@cache
def sequential(overrides: tuple[str, ...]) -> tuple[dict[str, Tensor], dict[str, Tensor], list[EpochRecord]]:
    blueprint = Blueprint(config(*overrides, *SEQUENTIAL))
    with make_executor(blueprint) as executor:
        initial = executor.state()
        events = list(executor.fit(program(blueprint, max_steps=NUM_STEPS)))
        return initial, executor.state(), [event for event in events if isinstance(event, EpochRecord)]


@pytest.mark.parametrize("schedule", PIPELINE_SCHEDULES)
def test_every_schedule_trains_as_one_process_does(vit: tuple[MicrobatchPipeline, Blueprint], schedule: str) -> None:
    pipeline, blueprint = vit
    initial, trained, expected = sequential(VIT)
    rearranged(pipeline, blueprint, schedule)
    assert differences(initial, pipeline.state()) == []
    events = list(pipeline.fit(program(blueprint, max_steps=NUM_STEPS)))
    assert_close(pipeline.state(), trained)
    metrics = [event for event in events if isinstance(event, EpochRecord)]
    assert [(row.split, row.epoch, row.name, row.num_samples) for row in metrics] == [
        (row.split, row.epoch, row.name, row.num_samples) for row in expected
    ]
    for row, other in zip(metrics, expected, strict=True):
        assert row.values == other.values
        assert row.loss is other.loss is None or row.loss == pytest.approx(other.loss, rel=1e-5)
    reports = [event for event in events if isinstance(event, StageReport)]
    assert [len(report.step_ends_s) for report in reports] == [NUM_STEPS] * 2
    assert all(report.sent_bytes > 0 and 0 < report.utilisation <= 1 for report in reports)


def test_a_state_is_loaded_whole_or_not_at_all(vit: tuple[MicrobatchPipeline, Blueprint]) -> None:
    pipeline, blueprint = vit
    rearranged(pipeline, blueprint, "zbv")
    _, trained, _ = sequential(VIT)
    pipeline.load_state(trained)
    assert differences(trained, pipeline.state()) == []
    with pytest.raises(IsogradError, match="is no tensor of any local module"):
        pipeline.load_state({**{name: tensor * 0 for name, tensor in trained.items()}, "other": torch.zeros(1)})
    assert differences(trained, pipeline.state()) == []
    values = [event.values for event in pipeline.evaluate(program(blueprint)) if isinstance(event, EpochRecord)]
    assert len(values) == 1 and 0 <= values[0]["error"] <= 1


def test_a_loss_that_is_not_a_number_stops_the_run(vit: tuple[MicrobatchPipeline, Blueprint]) -> None:
    pipeline, blueprint = vit  # for the last time: a pipeline that has failed is closed
    rearranged(pipeline, blueprint, "1f1b")
    state = pipeline.state().items()
    pipeline.load_state({name: tensor * torch.inf for name, tensor in state if name.startswith("backbone.")})
    with pytest.raises(NonFiniteLossError, match="module that ends in head is nan at step 0"):
        list(pipeline.fit(program(blueprint)))


@pytest.mark.long
def test_batch_statistics_are_those_of_microbatches_in_every_schedule(ray_session: None) -> None:
    blueprint = Blueprint(config(*RESNET, *FOUR))
    ends = []
    with make_microbatch_pipeline(blueprint, ends=(4, 11)) as pipeline:
        for schedule in ("1f1b", "zero_bubble", "zbv"):
            if ends:
                rearranged(pipeline, blueprint, schedule)
            list(pipeline.fit(program(blueprint, max_steps=3)))
            ends.append(pipeline.state())
    assert ends[0]["backbone.stem.bn1.num_batches_tracked"] == 3 * 4
    for state in ends[1:]:
        assert_close(state, ends[0])


DIGITS = ("model=vit_ti", "model.width=24", "model.depth=4", "model.patch_size=4", "method=e2e", "executor.device=cpu")
MICROBATCH = ("executor=microbatch", "executor.num_stages=2", "executor.schedule=zero_bubble")
SEQUENTIAL = ("executor=sequential",)


@pytest.mark.long
@pytest.mark.parametrize(("first", "second"), [(MICROBATCH, SEQUENTIAL), (SEQUENTIAL, MICROBATCH)])
def test_a_checkpoint_goes_on_in_the_other_executor(
    ray_session: None, tmp_path: Path, first: tuple, second: tuple
) -> None:
    run(load([*DIGITS, *SEQUENTIAL, f"folder={tmp_path}", "run_name=whole", "train.max_steps=14"]))
    run(load([*DIGITS, *first, f"folder={tmp_path}", "run_name=part", "train.max_steps=9"]))
    result = execute(prepare_resumed(tmp_path / "part", [*second, "train.max_steps=14"]))
    assert result.num_steps == 14 and len(result.module_scores) == 1
    states = [
        load_file(checkpoint.newest(tmp_path / name / "checkpoints") / "state.safetensors")
        for name in ("part", "whole")
    ]
    assert_close(*states)


@pytest.mark.long
@pytest.mark.parametrize("num_microbatches", [2, 4, 8])
def test_padded_positions_weigh_nothing_however_a_batch_is_split(ray_session: None, num_microbatches: int) -> None:
    options = (*TASKS.get("language").example, "task=language", "method=e2e", "precision.dtype=float64")
    states = []
    for executor in (SEQUENTIAL, ("executor=microbatch", f"executor.num_microbatches={num_microbatches}")):
        blueprint = Blueprint(load([*options, *executor, "executor.device=cpu"]))
        batches = source(partial(padded, blueprint.task), 3, blueprint.config.data.batch_size)
        with make_executor(blueprint) as running:
            events = list(running.fit(Program(batches, num_epochs=1, evaluates=False)))
            losses = [event.loss for event in events if isinstance(event, EpochRecord) and event.loss is not None]
            states.append(running.state() | {"loss": torch.tensor(losses, dtype=torch.float64)})
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-9, atol=1e-12, msg=name)


def padded(task: Task, size: int, generator: torch.Generator) -> Batch:
    """Random samples of which the first of each four has no valid position, and the others some."""
    batch = task.synthetic(size, generator)
    num_positions = batch.targets[VALID].shape[1]
    lengths = torch.arange(size) % 4 * num_positions // 3
    return replace(batch, targets={**batch.targets, VALID: torch.arange(num_positions) < lengths[:, None]})


def test_parts_of_equal_weight_keep_their_loss_to_the_bit() -> None:
    loss = torch.tensor(1 / 3)
    for weight in (7, torch.tensor(7)):
        assert torch.equal(shared(loss, weight, weight * 3, 3), loss)
    parts = [(torch.tensor(2.0), 1), (torch.tensor(4.0), 3), (torch.tensor(torch.nan), 0)]
    for convert in (int, torch.tensor):
        losses = [shared(mean, convert(weight), convert(4), 3) for mean, weight in parts]
        assert sum(losses) / 3 == torch.tensor(3.5)


def test_a_block_that_computes_with_others_weights_is_not_cut_off_from_them() -> None:
    options = (*TASKS.get("language").example, "task=language", "method=repl", "executor=microbatch")
    with pytest.raises(PartitionError, match=r"separates block\.\d from block\.\d or block\.\d"):
        check(Blueprint(load(options)))
    check(Blueprint(load([*options, "executor.num_stages=1"])))


@pytest.mark.parametrize(
    ("overrides", "kind", "said"),
    [
        (("method=dgl",), ExchangeError, "'dgl' with 4 local modules. It carries gradients across its cuts"),
        (("data.batch_size=30",), ConfigError, "batch_size=30 cannot be split into 8 equal microbatches"),
        (("executor.num_stages=4", "executor.num_microbatches=2"), ConfigError, "1F1B fills every stage"),
        (("executor.schedule=zbv", "executor.chunks=1"), ConfigError, "It has 2 a stage"),
        (("executor.num_stages=12",), IsogradError, "Use executor.num_stages=11"),
        (("executor.schedule=pipedream",), ConfigError, "It can be 1f1b or gpipe"),
        (("executor.num_microbatches=0",), ConfigError, "num_microbatches=0 is out of range"),
        (("executor.schedule=zbv", "precision.compile=true"), ConfigError, "compiled backward pass cannot"),
    ],
)
def test_what_cannot_run_is_refused_before_it_starts(tmp_path: Path, overrides: tuple, kind: type, said: str) -> None:
    with pytest.raises(kind, match=said):
        prepare(load(["method=e2e", "executor=microbatch", f"folder={tmp_path}", *overrides]))


def emulated(build: EmulatedPieces, schedule: str) -> MicrobatchPipeline:
    executor = MicrobatchConfig(
        device="cpu", num_stages=2, schedule=schedule, num_microbatches=4, event_interval_s=0.02
    )
    plan = plan_pieces(executor, build.num_units, ends=None)
    return MicrobatchPipeline(build, plan, executor, ClusterConfig(), records_steps=True)


def steps(count: int) -> Program:
    return Program(tiny_source(count, 8), num_epochs=1, evaluates=False)


def num_groups() -> int:
    from ray.util import placement_group_table

    return sum(group["state"] != "REMOVED" for group in placement_group_table().values())


@pytest.mark.long
def test_emulated_stages_run_and_a_killed_one_ends_the_run(ray_session: None) -> None:
    last, process_ids, groups_before = 0, [], num_groups()
    with pytest.raises(StageFailedError, match=r"stage 1 died at about step \d+"):
        with emulated(EmulatedPieces((0.01, 0.01, 0.01, 0.05), (2**16,) * 4, 8), "1f1b") as pipeline:
            process_ids = pipeline.process_ids()
            reports = [event for event in pipeline.fit(steps(6)) if isinstance(event, StageReport)]
            assert [report.num_steps for report in reports] == [6, 6]
            for event in pipeline.fit(steps(2000)):
                if isinstance(event, Progress):
                    if last <= 3 < event.step:
                        os.kill(process_ids[1], signal.SIGKILL)
                    last = max(last, event.step)
    assert 3 < last < 1999
    assert wait_until(lambda: not any(map(is_running, process_ids)) and num_groups() == groups_before)


@pytest.mark.long
def test_an_error_in_a_backward_pass_ends_the_run_while_others_wait(ray_session: None) -> None:
    class Failing(EmulatedPieces):
        """Its third unit cannot run backward; a class of the test's own travels by value."""

        def __call__(self, pieces, device: torch.device) -> list[Learner]:
            def fail(*_: object) -> None:
                raise ValueError("no gradient today")

            learners = super().__call__(pieces, device)
            for learner, units in zip(learners, pieces, strict=True):
                if 2 in units:
                    unit: nn.Module = learner.module.trunk[0]
                    unit.register_full_backward_hook(fail)
            return learners

    process_ids, groups_before = [], num_groups()
    with pytest.raises(StageFailedError, match="stage 1 failed at about step 0: ValueError: no gradient today"):
        with emulated(Failing((0.001,) * 4, (2**20,) * 4, 8), "zbv") as pipeline:
            process_ids = pipeline.process_ids()
            list(pipeline.fit(steps(5)))
    assert wait_until(lambda: not any(map(is_running, process_ids)) and num_groups() == groups_before)
