"""One stage by itself in a process of its own, which loops when it is told to.

The parent sends a pickled :class:`Task`, then a duration in seconds for each loop; it gets back the steps a second.
"""

import pickle
import sys
from dataclasses import dataclass

import torch

from isograd.channels.outbox import Nowhere
from isograd.data.batch import move
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
    gradient = move(_activations(blueprint, task.last, 1e-3), device)
    stage.prime(message, dict.fromkeys(stage.learners[-1].module.window.passes, gradient))
    return stage


def _random_message(blueprint: Blueprint, first: int) -> Message:
    batch = blueprint.task.synthetic(blueprint.config.data.batch_size, torch.Generator().manual_seed(0))
    message = Message.of_batch(Kind.TRAIN, batch, epoch=1, step=0, split="train", carries_inputs=True)
    return message.carrying(_activations(blueprint, first - 1)) if first else message


def _activations(blueprint: Blueprint, module: int, scale: float = 1.0) -> dict[str, torch.Tensor]:
    """Returns random values in place of what is alive after a local module."""
    size, dtype = blueprint.config.data.batch_size, DTYPES[blueprint.config.precision.dtype]
    alive = blueprint.partition.live(module)
    return {name: scale * torch.randn(size, *feature.shape, dtype=dtype) for name, feature in alive.items()}
