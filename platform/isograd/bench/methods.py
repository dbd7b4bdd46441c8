"""What every method costs relative to end-to-end training: time of a step, and memory kept for backward.

All run sequentially in one process. A method and E2E take turns, epoch by epoch, and the median of the ratios is
reported: over ``e2e`` with the same options, and over ``plain e2e`` in PyTorch's own memory layout, as one would write
it by hand. Memory is counted over one step (saved tensors; on a GPU also the allocator's peak).
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from isograd.bench.rows import Row
from isograd.config.load import load
from isograd.config.schema import RunConfig
from isograd.data.synthetic import source
from isograd.executor.blueprint import Blueprint
from isograd.executor.program import Program
from isograd.executor.sequential import SequentialExecutor
from isograd.local.method import METHODS
from isograd.partition.memory import AllocatedBytes, SavedBytes
from isograd.report.events import StageReport
from isograd.run.provenance import hardware

_COMMON = ("data=parquet", "executor=sequential")
_SPEED = ("model=resnet32", "data.batch_size=64")
_COUNTED_IMAGES = 8
_MEMORY = ("model=resnet110", "data.batch_size=16")


@dataclass(frozen=True)
class Case:
    """A method with its options, and the cuts that its paper made where it had K = 16 or 55."""

    name: str
    options: tuple[str, ...]
    table: str


# The methods as released where there is released code.
CASES = (
    Case("dgl", ("method=dgl", "method.auxiliary=auglocal"), "auglocal"),
    Case("infopro", ("method=infopro",), "auglocal"),
    Case("dgl+man", ("method=man", "method.auxiliary=auglocal"), "man"),
    Case("infopro+man", ("method=man", "method.base=infopro"), "man"),
    Case("dgl+hpff", ("method=hpff", "method.auxiliary=auglocal", "method.patches=none"), "hpff"),
    Case("dgl+hpff, shared patches", ("method=hpff", "method.auxiliary=auglocal"), "hpff"),
    Case("infopro+hpff", ("method=hpff", "method.base=infopro", "method.patches=quadrants"), "hpff"),
    Case("mlaan", ("method=mlaan",), "hpff"),
    Case("glcan", ("method=glcan",), "man"),
    Case("auglocal", ("method=auglocal",), "auglocal"),
    Case("auglocal, d=6", ("method=auglocal", "method.depth=6", "method.merges_last=true"), "auglocal"),
)


def bench(quick: bool, overrides: Sequence[str]) -> list[Row]:
    """Measures step times on ResNet-32, K=16, and memory on ResNet-110, K=55.

    Args:
        quick: Fewer steps and rounds, and no memory of ResNet-110.
        overrides: Of the configuration.
    """
    cases = [*CASES, *_others()]
    rows = [row for case in cases for row in _speed(case, quick, overrides)]
    return rows + _memory(cases if not quick else [], overrides)


def configured(*options: str) -> RunConfig:
    """Returns the configuration of a contender."""
    return load([*_COMMON, *options])


def saved_bytes_per_image(config: RunConfig) -> float:
    """Trains one small batch of random images on the CPU; returns the most bytes that autograd had saved, per image."""
    config = replace(
        config,
        executor=replace(config.executor, device="cpu"),
        data=replace(config.data, batch_size=min(config.data.batch_size, _COUNTED_IMAGES)),
    )
    with Contender(config, 1) as contender:
        return contender.saved_bytes() / config.data.batch_size


class Contender:
    """A configuration that can be asked to train some steps of random images, sequentially; a context manager."""

    def __init__(self, config: RunConfig, num_steps: int) -> None:
        self._blueprint = Blueprint(replace(config, executor=replace(config.executor, name="sequential")))
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
        batches = source(self._num_steps, config.data.batch_size, config.data.shape, config.data.num_classes)
        carries_pixels = self._blueprint.method.exchange.input
        return Program(batches, num_epochs=1, carries_pixels=carries_pixels, tests=False)


def _speed(case: Case, quick: bool, overrides: Sequence[str]) -> list[Row]:
    num_steps, num_rounds = (2, 1) if quick else (3, 5)
    options = (*_SPEED, *overrides)
    with (
        Contender(configured(*options, *case.options, *_cuts(case, 16)), num_steps) as method,
        Contender(configured(*options, "method=e2e"), num_steps) as e2e,
        Contender(configured(*options, "method=e2e", "precision.channels_last=false"), num_steps) as plain,
    ):
        contenders = (method, e2e, plain)
        rounds = [[contender.step_s() for contender in contenders] for _ in range(num_rounds + 1)][1:]  # 1: warm up
        peaks = [float(contender.saved_bytes()) for contender in (method, e2e)]
    name = f"{case.name}, ResNet-32 K=16, batch 64"
    return [
        _row(name, "step", 1e3 * statistics.median(ours for ours, _, _ in rounds), "ms"),
        _row(name, "step time over plain e2e", statistics.median(ours / plain for ours, _, plain in rounds), "ratio"),
        _row(name, "step time over e2e", statistics.median(ours / e2e for ours, e2e, _ in rounds), "ratio"),
        _row(name, "saved bytes over e2e", peaks[0] / peaks[1], "ratio"),
        _row(name, "saved bytes an image", peaks[0] / _batch_size(options), "bytes"),
    ]


def _memory(cases: Sequence[Case], overrides: Sequence[str]) -> list[Row]:
    options, rows = (*_MEMORY, *overrides), []
    baseline = _peaks((*options, "method=e2e")) if cases else {}
    for case in cases:
        peaks = _peaks((*options, *case.options, *_cuts(case, 55)))
        name = f"{case.name}, ResNet-110 K=55"
        rows += [_row(name, f"{what} over e2e", peaks[what] / baseline[what], "ratio") for what in peaks]
        rows += [_row(name, f"{what} an image", peaks[what] / _batch_size(options), "bytes") for what in peaks]
    return rows


def _peaks(options: Sequence[str]) -> dict[str, float]:
    with Contender(configured(*options), 1) as contender:
        peaks = {"saved bytes": float(contender.saved_bytes())}
        if contender.is_on_gpu:
            peaks["allocated bytes"] = float(contender.allocated_bytes())
        return peaks


def _cuts(case: Case, named_k: int) -> list[str]:
    if not case.table:
        return []
    return ["partition=published", f"partition.table={case.table}", f"partition.num_modules={named_k}"]


def _others() -> list[Case]:
    """Returns the registered methods that no case names, with their defaults."""
    named = {option.removeprefix("method=") for case in CASES for option in case.options}
    return [Case(name, (f"method={name}",), "") for name in METHODS if name not in named and name != "e2e"]


def _batch_size(options: Sequence[str]) -> int:
    return configured(*options).data.batch_size


def _row(case: str, metric: str, value: float, unit: str) -> Row:
    return Row(case, metric, value, unit, "measured", hardware())
