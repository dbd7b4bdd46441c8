"""Small runs of super-resolution for the tests: random images, those to test on of several sizes."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from torch import Tensor

from isograd.config.load import load
from isograd.data.pictures import Pictures
from isograd.data.super_resolution import Crops, PairSource
from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig
from isograd.engine.program import Program
from isograd.events.events import Event
from isograd.executors.hosts import Hosts
from tests.runs import opened

SMALL = (
    *("data=camvid_set5", "data.crop=8", "data.batch_size=8", "task=super_resolution", "model=edsr_small"),
    *("model.width=6", "optimizer=adam", "optimizer.lr=1e-3", "lr_schedule=constant", "executor.device=cpu"),
)
TEST_SIZES = ((16, 19), (24, 16), (31, 47))


def pictures(sizes: Iterable[tuple[int, int]], seed: int = 0) -> Pictures:
    generator = np.random.Generator(np.random.PCG64(seed))
    return Pictures(tuple(generator.integers(0, 256, (3, *size), dtype=np.uint8) for size in sizes))


def source(config: RunConfig, num_train: int = 20) -> PairSource:
    """20 images in batches of 8: three steps an epoch, the last one of 4."""
    data = config.data
    return PairSource(
        pictures([(32 + row, 40 - row) for row in range(num_train)]),
        Pictures(()),
        pictures([(data.scale * height, data.scale * width) for height, width in TEST_SIZES], seed=1),
        batch_size=data.batch_size,
        seed=0,
        crops=Crops(data.crop, data.scale, turns=True),
    )


@cache
def config(*overrides: str) -> RunConfig:
    return load([*SMALL, *overrides])


def train(*overrides: str, actors: Hosts | None = None, **options: Any) -> tuple[dict[str, Tensor], list[Event]]:
    """Returns all state after two epochs, and what happened."""
    blueprint = Blueprint(config(*overrides))
    options = {"num_epochs": 2, "carries_inputs": blueprint.method.exchange.inputs, **options}
    with opened(blueprint, actors) as executor:
        events = list(executor.fit(Program(source(blueprint.config), **options)))
        return executor.state(), events
