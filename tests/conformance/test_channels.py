"""Every channel keeps every promise of the one contract, between two actors; one that cannot serve here says why."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from isograd.channels.channel import AUTO, CHANNELS
from isograd.cluster.config import ClusterConfig
from isograd.errors import ChannelError, StageFailedError
from isograd.executors.pipeline.config import PipelinedConfig
from isograd.executors.pipeline.pipeline import Pipeline
from isograd.local.message import Kind, Message
from tests.processes import have_ended, wait_until
from tests.scripted import Arrived, Script, ScriptedBuilder, Sent, described

DEPTH = 2
MIB = 2**20

TENSORS = {
    "float32": torch.randn(8, 3, 4, 5),
    "bfloat16": torch.randn(8, 3, 4, 5).bfloat16(),
    "float64": torch.randn(7, dtype=torch.float64),
    "int64": torch.arange(-3, 5),
    "uint8": torch.randint(0, 255, (8, 3, 4, 4), dtype=torch.uint8),
    "channels last": torch.randn(8, 3, 4, 5).to(memory_format=torch.channels_last),
    "bfloat16 channels last": torch.randn(8, 3, 4, 5).bfloat16().to(memory_format=torch.channels_last),
    "not a number": torch.tensor([float("nan"), -0.0, float("inf")]),
    "ragged": torch.randn(3, 3, 4, 5),
    "with gaps": torch.randn(6, 4)[::2],
    "empty": torch.randn(0, 3),
    "scalar": torch.tensor(2.5),
    "large": torch.randn(MIB // 4 + 1),
}


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Once this file exists, the receiver goes on from messages that are held."""
    return tmp_path_factory.mktemp("gate") / "open"


def pipeline(channel: str, gate: Path) -> Pipeline:
    executor = PipelinedConfig(device="cpu", queue_depth=DEPTH, channel=channel)
    return Pipeline([ScriptedBuilder(index, gate) for index in range(2)], executor, ClusterConfig())


def message(step: int, value: Tensor | None = None, kind: Kind = Kind.TRAIN, is_held: bool = False) -> Message:
    pixels = torch.full((2, 3), step % 256, dtype=torch.uint8)
    values = {} if value is None else {"x": value}
    targets = {"label": torch.arange(step, step + 3)}
    return Message(kind, 1, int(is_held), step, "train", 3, values, targets, {"image": pixels})


def run(pipeline: Pipeline, *messages: Message) -> list[Any]:
    return list(pipeline.fit(Script(messages)))  # pyright: ignore[reportArgumentType]


def arrivals(events: list[Any], stage: int = 1) -> list[Arrived]:
    return [event for event in events if isinstance(event, Arrived) and event.stage == stage]


def contents(found: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {name: (it.dtype, it.shape, it.strides, it.digest) for name, it in found.items()}


@pytest.fixture(scope="module", params=list(CHANNELS))
def connected(request: pytest.FixtureRequest, ray_session: None, gate: Path) -> Iterator[Pipeline]:
    """Two stages, connected by each channel in turn."""
    gate.unlink(missing_ok=True)
    try:
        with pipeline(request.param, gate) as stages:
            yield stages
    except ChannelError as error:
        pytest.skip(str(error))


def test_a_run_can_ask_for_every_channel() -> None:
    options = {item.name: item for item in fields(PipelinedConfig)}
    assert sorted(options["channel"].metadata["choices"]) == sorted([AUTO, *CHANNELS])


def test_everything_arrives_unchanged_and_in_order(connected: Pipeline) -> None:
    sent = [message(step, value) for step, value in enumerate(TENSORS.values())]
    marker = Message(Kind.EPOCH, 1, step=len(sent))
    events = run(connected, *sent, marker, message(len(sent) + 1, torch.ones(2)))
    found = arrivals(events)
    assert [event.step for event in found[:-1]] == list(range(len(sent) + 2))
    for before, after in zip(sent, found, strict=False):
        assert contents(after.tensors) == contents(described(before.tensors)), list(TENSORS)[before.step]
        assert {it.version for it in after.tensors.values()} == {0}  # the guard against writing counts from here
    assert found[len(sent)].tensors == {}


def test_programs_follow_each_other(connected: Pipeline) -> None:
    for count in (3, 1, 0, 5):
        events = run(connected, *[message(step, torch.full((4, step + 1), float(count))) for step in range(count)])
        assert [event.step for event in arrivals(events)] == [*range(count), count]


def test_the_way_up_carries_the_same(connected: Pipeline) -> None:
    sent = [message(step, value, Kind.EVALUATE) for step, value in enumerate(TENSORS.values())]
    for before, after in zip(sent, arrivals(run(connected, *sent), stage=0), strict=True):
        assert contents(after.tensors) == contents(described(before.tensors))


def test_a_send_returns_before_delivery_and_the_queue_is_bounded(connected: Pipeline, gate: Path) -> None:
    run(connected, message(0, torch.randn(MIB)))  # what is done once has been done
    script = Script([message(step, torch.randn(MIB), is_held=step == 0) for step in range(7)])
    returned_s, opened_s = {}, 0.0
    for event in connected.fit(script):  # pyright: ignore[reportArgumentType]
        if isinstance(event, Sent):
            returned_s[event.step] = event.at_s
            # While the receiver is busy with message 0, DEPTH of them wait, and another one to be sent.
            if event.step == DEPTH + 1:
                time.sleep(0.3)  # in which a queue without bounds would take more
                opened_s = time.perf_counter()
                gate.touch()
    assert len(returned_s) == 8 and all(returned_s[step] > opened_s for step in range(DEPTH + 2, 7))


def test_the_object_store_is_read_where_it_is(connected: Pipeline) -> None:
    if connected.channel != "store":
        pytest.skip("only the object store has memory that both stages see")
    [large, _] = arrivals(run(connected, message(0, torch.randn(MIB))))
    assert "s " in large.tensors["values/x"].mapping and "plasma" in large.tensors["values/x"].mapping


def test_both_ways_are_busy_at_once(connected: Pipeline) -> None:
    value = torch.randn(4096)
    sent = [message(step, value[step:], Kind.EVALUATE if step % 3 == 2 else Kind.TRAIN) for step in range(150)]
    events = run(connected, *sent)
    assert [event.step for event in arrivals(events)] == list(range(151))
    for event in [event for event in events if isinstance(event, Arrived) and event.tensors]:
        assert event.tensors["values/x"].digest == described({"x": value[event.step :]})["x"].digest


def killed(stages: Pipeline, victim: int) -> None:
    """Kills a stage in the middle of a run, and sees to the end of all."""
    process_ids, last, value = stages.process_ids(), 0, torch.randn(MIB)
    endless = Script([message(step, value, Kind.EVALUATE if step % 2 else Kind.TRAIN) for step in range(2000)])
    with pytest.raises(StageFailedError, match=f"stage {victim} died"):
        for event in stages.fit(endless):  # pyright: ignore[reportArgumentType]
            if isinstance(event, Arrived):
                if last <= 4 < event.step:
                    os.kill(process_ids[victim], signal.SIGKILL)
                last = max(last, event.step)
    assert 4 < last < 1999
    stages.__exit__(None, None, None)
    assert wait_until(lambda: have_ended(process_ids))


@pytest.mark.long
def test_a_sender_that_dies_in_a_transfer_ends_the_run(ray_session: None, gate: Path) -> None:
    """The receiver has been told what comes, and waits for it in a group that has lost its other rank."""
    with pipeline("collective", gate) as stages:
        killed(stages, 0)


def test_a_receiver_that_dies_ends_the_run_and_leaves_nothing(connected: Pipeline) -> None:
    """The last test of each channel: its pipeline is not there any more."""
    killed(connected, 1)
