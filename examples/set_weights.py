"""A method from Python, step by step: set every weight by its name, train on batches of your own, read all state.

This is how to compare with other code, number for number. Run it with
``python examples/set_weights.py [OPTION=VALUE ...]``, for example ``method=hpff method.base=infopro``.
"""

import sys
from collections.abc import Iterator

import torch

from isograd.config.load import load
from isograd.data.batch import Batch
from isograd.engine.blueprint import Blueprint
from isograd.engine.program import Program
from isograd.events.events import EpochRecord
from isograd.executors.executor import make_executor

NUM_STEPS = 3


class OwnBatches:
    """One batch an epoch, so that losses are reported step by step. Implements ``isograd.data.batch.Source``."""

    num_train, num_valid, num_test, batch_size, test_batch_size, held_bytes = 8, 0, 0, 8, 8, 0

    def on(self, device: torch.device) -> "OwnBatches":
        """Returns the source for a device."""
        return self

    def train(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yields the epoch's batch: uint8 pixels and targets."""
        generator = torch.Generator().manual_seed(epoch)
        pixels = torch.randint(0, 256, (8, 3, 32, 32), generator=generator).to(torch.uint8)
        label = torch.randint(0, 10, (8,), generator=generator)
        yield Batch({"image": pixels}, {"label": label}, torch.arange(8), 0)

    def valid(self) -> Iterator[Batch]:
        """Yields nothing."""
        yield from ()

    def shard(self, rank: int, world: int) -> "OwnBatches":
        """Returns the source of a single worker."""
        return self

    def test(self) -> Iterator[Batch]:
        """Yields nothing."""
        yield from ()


def main(overrides: list[str]) -> None:
    """Trains some steps from weights that are set by name."""
    options = ["model=resnet20", "data=cifar10", "method=man", "partition.num_modules=4", "executor=sequential"]
    blueprint = Blueprint(load([*options, "precision.dtype=float64", f"train.epochs={NUM_STEPS}", *overrides]))
    inputs = blueprint.method.exchange.inputs
    program = Program(OwnBatches(), num_epochs=NUM_STEPS, carries_inputs=inputs, evaluates=False)
    with make_executor(blueprint) as executor:
        state = executor.state()  # name -> tensor: weights, buffers, metrics; after training optimizer.*, too
        for name in state:
            if name.endswith("conv1.weight"):
                state[name] = torch.full_like(state[name], 0.01)
        executor.load_state(state)
        for event in executor.fit(program):
            if isinstance(event, EpochRecord):
                print(f"step {event.epoch}  module {event.module} ({event.name})  loss {event.loss}")
        for name, tensor in list(executor.state().items())[:3]:
            print(f"{name}: {tuple(tensor.shape)}, norm {tensor.double().norm():.6f}")


if __name__ == "__main__":
    main(sys.argv[1:])
