"""Small runs for the tests: random images that any method, backbone and executor can train on."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isograd.config.load import load
from isograd.data.memory import MemorySource, Samples
from isograd.data.transforms import Augmentation
from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig
from isograd.engine.program import Program
from isograd.events.events import Event
from isograd.executors.executor import Running, make_executor
from isograd.executors.hosts import Hosts

CIFAR_LIKE = ("data=parquet", "data.image_shape=[3,32,32]", "data.num_classes=10", "executor.device=cpu")


def images(count: int, shape: tuple[int, int, int] = (3, 32, 32), num_classes: int = 10, seed: int = 0) -> Samples:
    generator = np.random.Generator(np.random.PCG64(seed))
    pixels = generator.integers(0, 256, (count, *shape), dtype=np.uint8)
    return Samples({"image": pixels}, {"label": generator.integers(0, num_classes, count)})


def source(num_train: int = 84, batch_size: int = 8, shape: tuple[int, int, int] = (3, 32, 32)) -> MemorySource:
    """84 images in batches of 8: eleven steps an epoch, the last one of 4."""
    return MemorySource(
        images(num_train, shape),
        images(0, shape),
        images(24, shape, seed=1),
        batch_size=batch_size,
        seed=0,
        augmentation=Augmentation(padding=2, flip=True),
    )


@cache
def config(*overrides: str) -> RunConfig:
    return load([*CIFAR_LIKE, *overrides])


def program(blueprint: Blueprint, num_train: int = 84, **options: Any) -> Program:
    options.setdefault("num_epochs", 2)
    carries_inputs = blueprint.method.exchange.inputs
    channels, height, width = blueprint.dataset.inputs["image"].fixed_shape
    return Program(source(num_train, shape=(channels, height, width)), carries_inputs=carries_inputs, **options)


@contextmanager
def opened(blueprint: Blueprint, actors: Hosts | None = None) -> Iterator[Running]:
    """Runs a block with the blueprint's executor: on these actors, if it is a pipeline and they are given."""
    opener = make_executor if actors is None or blueprint.config.executor.name != "pipelined" else actors.open
    with opener(blueprint) as executor:
        yield executor


def trained(
    *overrides: str, start: dict[str, Tensor] | None = None, actors: Hosts | None = None, **options: Any
) -> dict[str, Tensor]:
    """Returns all state after training with these overrides."""
    blueprint = Blueprint(config(*overrides))
    with opened(blueprint, actors) as executor:
        if start is not None:
            executor.load_state(start)
        for _ in executor.fit(program(blueprint, **options)):
            pass
        return executor.state()


def events(*overrides: str, **options: Any) -> Iterator[Event]:
    blueprint = Blueprint(config(*overrides))
    with make_executor(blueprint) as executor:
        yield from executor.fit(program(blueprint, **options))


def differences(first: dict[str, Tensor], second: dict[str, Tensor]) -> list[str]:
    """Returns the names of tensors that are not equal to the last bit."""
    assert first.keys() == second.keys()
    return [name for name, tensor in first.items() if not torch.equal(tensor, second[name])]
