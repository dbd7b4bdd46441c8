"""A configuration that trains steps of random samples in this process: what a step takes, and keeps in memory."""

from dataclasses import replace

from isograd.data.synthetic import source
from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig
from isograd.engine.program import Program
from isograd.events.events import StageReport
from isograd.executors.sequential import SequentialExecutor
from isograd.partition.memory import AllocatedBytes, SavedBytes

_COUNTED_SAMPLES = 8


def saved_bytes_per_sample(config: RunConfig) -> float:
    """Trains one small batch of random samples on the CPU; returns the most bytes that autograd saves a sample."""
    config = replace(
        config,
        executor=replace(config.executor, device="cpu"),
        data=replace(config.data, batch_size=min(config.data.batch_size, _COUNTED_SAMPLES)),
    )
    with Contender(config, 1) as contender:
        return contender.saved_bytes() / config.data.batch_size


class Contender:
    """A configuration that can be asked to train some steps of random samples, sequentially; a context manager."""

    def __init__(self, config: RunConfig, num_steps: int) -> None:
        self._blueprint = Blueprint(replace(config, executor=SequentialExecutor.Config.of(config.executor)))
        self._executor, self._num_steps = SequentialExecutor(self._blueprint), num_steps

    def __enter__(self) -> "Contender":
        self._executor.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._executor.__exit__(None, None, None)

    def step_s(self) -> float:
        """Trains and returns the mean time of a step, in seconds."""
        reports = [event for event in self._executor.fit(self._program()) if isinstance(event, StageReport)]
        return reports[-1].train_s / reports[-1].num_steps

    def saved_bytes(self) -> int:
        """Trains and returns the most bytes that autograd had saved at once."""
        weights = [weight for learner in self._executor.stage.learners for weight in learner.module.parameters()]
        with SavedBytes(weights) as saved:
            self.step_s()
        return saved.peak_bytes

    def allocated_bytes(self) -> int:
        """Trains and returns the most bytes that were allocated on the GPU beyond weights and optimizer state."""
        self.step_s()  # the optimizer's state, and cuDNN's choices
        with AllocatedBytes(self._executor.stage.device) as allocated:
            self.step_s()
        return allocated.peak_bytes

    @property
    def is_on_gpu(self) -> bool:
        """Whether it trains on a GPU."""
        return self._executor.stage.device.type == "cuda"

    def _program(self) -> Program:
        config = self._blueprint.config
        blueprint, batch_size = self._blueprint, config.data.batch_size
        batches = source(blueprint.task.synthetic, self._num_steps, batch_size, blueprint.dataset.augmentation)
        carries_inputs = self._blueprint.method.exchange.inputs
        return Program(batches, num_epochs=1, carries_inputs=carries_inputs, evaluates=False)
