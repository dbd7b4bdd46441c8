"""What every method costs relative to end-to-end training: time of a step, and memory kept for backward.

All run sequentially in one process. A method and E2E take turns, epoch by epoch, and the median of the ratios is
reported: over ``e2e`` with the same options, and over ``plain e2e`` in PyTorch's own memory layout, as one would write
it by hand. Memory is counted over one step (saved tensors; on a GPU also the allocator's peak).
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from isograd.bench.rows import Row
from isograd.config.load import load
from isograd.engine.config import RunConfig
from isograd.local.method import METHODS
from isograd.planning.contender import Contender
from isograd.system.provenance import hardware

_COMMON = ("data=parquet", "executor=sequential")
_SPEED = ("model=resnet32", "data.batch_size=64")
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
