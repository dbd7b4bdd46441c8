"""Two live values at every cut, and images to test on that differ in size: every executor and channel agrees."""

from functools import cache
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from isograd.channels.channel import CHANNELS
from isograd.events.events import EpochRecord, Event
from isograd.executors.hosts import Hosts
from tests.enlarging import TEST_SIZES, train
from tests.runs import differences

K = "partition.num_modules=4"
METHODS = {
    "e2e": ("method=e2e",),
    "dgl": ("method=dgl", K),
    "man": ("method=man", "method.decay=0.9", "method.fusion=scaled", "method.auxiliary=linear", K),
    "glcan": ("method=glcan", K),
    "repl, dgl": ("method=repl", "method.wraps=dgl", "method.mode=surrogate", "partition.num_modules=2"),
}
SAMPLE = [("e2e", 1), ("dgl", 2), ("man", 3), ("glcan", 4), ("repl, dgl", 2)]


@cache
def sequential(overrides: tuple[str, ...]) -> tuple[dict[str, Tensor], list[Event]]:
    return train(*overrides, "executor=sequential")


def metrics(events: list[Event]) -> list[tuple[object, ...]]:
    records = [event for event in events if isinstance(event, EpochRecord)]
    return sorted((record.epoch, record.split, record.module, *record.values.items()) for record in records)


def assert_same(overrides: tuple[str, ...], actors: Hosts, *executor: str) -> None:
    expected, events = sequential(overrides)
    state, others = train(*overrides, "executor=pipelined", *executor, actors=actors)
    assert not differences(state, expected)
    assert metrics(others) == metrics(events)


@pytest.mark.parametrize(("method", "stages"), SAMPLE)
def test_pipelined_equals_sequential(actors: Hosts, method: str, stages: int) -> None:
    assert_same(METHODS[method], actors, f"executor.num_stages={stages}")


@pytest.mark.parametrize("channel", sorted(set(CHANNELS) - {"store"}))
def test_images_of_any_size_pass_every_channel(actors: Hosts, channel: str) -> None:
    if channel == "direct" and find_spec("nixl") is None:
        pytest.skip("on a CPU Ray's direct transport needs the package nixl")
    assert_same(METHODS["dgl"], actors, "executor.num_stages=2", f"executor.channel={channel}")


def test_microbatches_carry_both_values_and_images_of_any_size(ray_session: None) -> None:
    options = ("method=e2e", "optimizer=sgd", "optimizer.lr=0.01")  # Adam magnifies what rounding changes
    expected, events = sequential(options)
    for more in ((), ("executor.schedule=interleaved",)):
        state, others = train(*options, "executor=microbatch", "executor.num_stages=2", *more)
        for name, tensor in expected.items():
            if not name.startswith("metrics."):
                torch.testing.assert_close(state[name], tensor, rtol=1e-5, atol=2e-6)
        tested = [event for event in others if isinstance(event, EpochRecord) and event.split == "test"]
        wanted = [event for event in events if isinstance(event, EpochRecord) and event.split == "test"]
        assert [event.num_samples for event in tested] == [len(TEST_SIZES)] * 2
        for event, other in zip(tested, wanted, strict=True):
            assert event.values == pytest.approx(other.values, abs=1e-3)
