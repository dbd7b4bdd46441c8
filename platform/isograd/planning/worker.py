"""One stage by itself in a process of its own, which loops when it is told to.

The parent sends a pickled :class:`Task`, then a duration in seconds for each loop; it gets back the steps a second.
"""

import pickle
import sys
from dataclasses import dataclass

import torch

from isograd.channels.outbox import Nowhere
from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig
from isograd.engine.stage import Stage
from isograd.executors.sequential import resolve_device
from isograd.local.learner import DTYPES
from isograd.local.message import Kind, Message


@dataclass(frozen=True)
class Task:
    """Which stage: the local modules ``first`` to ``last`` of a configuration."""

    config: RunConfig
    first: int
    last: int


def main() -> None:
    """Serves the parent until it closes the pipe."""
    stage = primed_stage(pickle.load(sys.stdin.buffer))
    stage.loop(0.1)
    print("ready", flush=True)
    for line in sys.stdin:
        print(stage.loop(float(line)), flush=True)


def primed_stage(task: Task) -> Stage:
    """Builds the stage, and gives it a random batch to loop on."""
    blueprint, config = Blueprint(task.config), task.config
    torch.set_num_threads(config.executor.threads)
    device = resolve_device(config.executor.device)
    modules = range(task.first, task.last + 1)
    stage = Stage(0, blueprint.learners(modules, device), Nowhere(), device=device)
    message = _random_message(blueprint, task.first).to(device)
    stage.prime(message, {origin: _gradient(blueprint, task.last).to(device) for origin in _origins(stage)})
    return stage


def _origins(stage: Stage) -> list[int]:
    return list(stage.learners[-1].module.window.passes)


def _random_message(blueprint: Blueprint, first: int) -> Message:
    data = blueprint.config.data
    pixels = torch.randint(0, 256, (data.batch_size, *data.shape), dtype=torch.uint8)
    target = torch.randint(0, data.num_classes, (data.batch_size,))
    value = _activation(blueprint, first - 1) if first else pixels
    return Message(Kind.TRAIN, 1, value=value, target=target, pixels=pixels)


def _gradient(blueprint: Blueprint, module: int) -> torch.Tensor:
    return _activation(blueprint, module) * 1e-3


def _activation(blueprint: Blueprint, module: int) -> torch.Tensor:
    shape = blueprint.partition.units(module)[-1].output.shape
    return torch.randn(blueprint.config.data.batch_size, *shape, dtype=DTYPES[blueprint.config.precision.dtype])
