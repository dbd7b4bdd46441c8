"""EDSR computes what the authors' released code computes, number for number, in float64.

Weights and batches are rebuilt by the rules of the traces; our units are trained by our task's loss through the engine,
with white at 255 as the release has it.
"""

import dataclasses
import json
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from isograd.config.load import load
from isograd.data.batch import Batch
from isograd.data.super_resolution import RGB_MEAN
from isograd.engine.blueprint import Blueprint
from isograd.engine.program import Program
from isograd.events.events import EpochRecord
from isograd.local.message import Kind, Message
from isograd.local.step import predict_step
from tests.runs import opened

TRACE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "traces" / "edsr_x2.json").read_text())
NUM_STEPS = 3
RECIPE = (
    *("data=camvid_set5", "data.crop=24", "data.value_range=255", "task=super_resolution"),
    *("model=edsr_baseline", "method=e2e", "executor=sequential", "executor.device=cpu", "precision.dtype=float64"),
    *("optimizer=adam", "optimizer.lr=1e-4", "lr_schedule=constant", f"train.epochs={NUM_STEPS}"),
)
MEAN = torch.tensor(RGB_MEAN, dtype=torch.float64).view(3, 1, 1) * 255


class TraceSource:
    """One batch of 2 an epoch, drawn by the traces' rule."""

    num_train, num_valid, num_test, batch_size, test_batch_size, held_bytes = 2, 0, 0, 2, 2, 0

    def on(self, device: torch.device) -> "TraceSource":
        return self

    def shard(self, rank: int, world: int) -> "TraceSource":
        return self

    def train(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        generator = np.random.Generator(np.random.PCG64(TRACE["batch_seed"] + epoch - 1))
        low, high = (torch.from_numpy(generator.integers(0, 256, (2, 3, side, side))) for side in (24, 48))
        yield Batch({"image": low.to(torch.uint8)}, {"high": high.to(torch.uint8)}, torch.arange(2), 0)

    def valid(self) -> Iterator[Batch]:
        yield from ()

    def test(self) -> Iterator[Batch]:
        yield from ()


def released(name: str) -> str:
    """Maps our name of a weight to the released code's."""
    ours = {"head.conv": "head.0", "tail.body_end": "body.16", "tail.upsample.0": "tail.0.0", "tail.last": "tail.1"}
    layer, _, leaf = name.removeprefix("backbone.").rpartition(".")
    return f"{ours.get(layer, layer.replace('block.', 'body.'))}.{leaf}"


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    """Draws a weight by the trace's rule."""
    drawn = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(shape)
    drawn = drawn / np.sqrt(3 * np.prod(shape[1:])) if len(shape) == 4 else 0.1 * drawn
    return torch.from_numpy(np.asarray(drawn, dtype=np.float32)).double()


def summary(value: Tensor) -> list[float]:
    return [float(value.sum()), float(value.norm()), *value.flatten()[:4].tolist()]


@dataclasses.dataclass
class Trained:
    """What a run of our own came to."""

    losses: list[float]
    state: dict[str, Tensor]
    moved: dict[str, float]
    output: Tensor
    output_after: Tensor


@cache
def train() -> Trained:
    blueprint = Blueprint(load(RECIPE))
    source = TraceSource()
    message = Message.of_batch(Kind.TRAIN, next(source.train(1)), epoch=1, step=0, split="train", carries_inputs=False)
    with opened(blueprint) as executor:
        state = executor.state()
        names = {name: released(name) for name in state if name.startswith("backbone.")}
        start = {ours: drawn(theirs, tuple(state[ours].shape)) for ours, theirs in names.items()}
        executor.load_state({**state, **start})
        learner = executor.stage.learners[0]  # pyright: ignore[reportAttributeAccessIssue]
        output = predict_step(learner, message)["high"] + MEAN
        events = list(executor.fit(Program(source, num_epochs=NUM_STEPS, evaluates=False)))
        losses = [event.loss for event in events if isinstance(event, EpochRecord) and event.loss is not None]
        final = {theirs: executor.state()[ours].clone() for ours, theirs in names.items()}
        moved = {theirs: float((final[theirs] - start[ours]).norm()) for ours, theirs in names.items()}
        return Trained(losses, final, moved, output, predict_step(learner, message)["high"] + MEAN)


def test_losses_are_the_released_codes() -> None:
    assert train().losses == pytest.approx([loss for (loss,) in TRACE["losses"]], rel=1e-9, abs=0)


def test_weights_are_the_released_codes() -> None:
    state = train().state
    assert set(state) == {name for name, _, is_trained in TRACE["parameters"] if is_trained}
    for name, tensor in state.items():
        total, norm, first = TRACE["final"][name]
        ours = summary(tensor)
        assert ours[0] == pytest.approx(total, rel=0, abs=1e-7), name
        assert ours[1:] == pytest.approx([norm, *first], rel=0, abs=1e-9), name


def test_weights_moved_as_far_as_the_released_codes() -> None:
    for name, moved in train().moved.items():
        assert moved == pytest.approx(TRACE["moved"][name], rel=1e-6, abs=1e-9), name


@pytest.mark.parametrize("which", ["output", "output_after"])
def test_images_are_the_released_codes(which: str) -> None:
    image: Tensor = getattr(train(), which)
    total, norm, first = TRACE[which]["summary"]
    assert summary(image) == pytest.approx([total, norm, *first], rel=1e-9)
    assert image[:, :, ::12, ::12].flatten().tolist() == pytest.approx(TRACE[which]["every12"], rel=1e-9)
