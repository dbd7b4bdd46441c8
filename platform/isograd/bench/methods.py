"""What every method costs relative to end-to-end training: time of a step, and memory kept for backward.

All run sequentially in one process. A method and E2E take turns, epoch by epoch, and the median of the ratios is
reported: over ``e2e`` with the same options, and over ``plain e2e`` in PyTorch's own memory layout, as one would write
it by hand. Memory is counted over one step (saved tensors; on a GPU also the allocator's peak).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from isograd.bench.bench import BENCHES
from isograd.bench.rows import Row
from isograd.config.load import load
from isograd.engine.config import RunConfig
from isograd.local.method import METHODS
from isograd.planning.contender import Contender

_SPEED = ("model=resnet32", "data.batch_size=64")
_MEMORY = ("model=resnet110", "data.batch_size=16")


@dataclass(frozen=True)
class Case:
    """A method with its options, and the table of cuts that its paper made where it had K = 16 or 55."""

    name: str
    options: tuple[str, ...]
    table: str

    def cut(self, num_modules: int) -> list[str]:
        """Returns the options that cut as the paper did."""
        if not self.table:
            return []
        return ["partition=published", f"partition.table={self.table}", f"partition.num_modules={num_modules}"]


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


@BENCHES.register("methods")
def bench(quick: bool, overrides: Sequence[str]) -> list[Row]:
    """Measures step times on ResNet-32, K=16, and, unless quick, memory on ResNet-110, K=55."""
    named = {option.removeprefix("method=") for case in CASES for option in case.options}
    others = [Case(name, (f"method={name}",), "") for name in METHODS if name not in named and name != "e2e"]
    cases = [*CASES, *others]
    rows = [row for case in cases for row in _speed(case, quick, overrides)]
    return rows + ([] if quick else _memory(cases, overrides))


def compose(*options: str) -> RunConfig:
    """Returns the configuration of a contender."""
    return load(["data=parquet", "executor=sequential", *options])


def _speed(case: Case, quick: bool, overrides: Sequence[str]) -> list[Row]:
    num_steps, num_rounds = (2, 1) if quick else (3, 5)
    options = (*_SPEED, *overrides)
    config = compose(*options, *case.options, *case.cut(16))
    with (
        Contender(config, num_steps) as method,
        Contender(compose(*options, "method=e2e"), num_steps) as e2e,
        Contender(compose(*options, "method=e2e", "precision.channels_last=false"), num_steps) as plain,
    ):
        contenders = (method, e2e, plain)
        rounds = [[contender.step_s() for contender in contenders] for _ in range(num_rounds + 1)][1:]  # 1: warm up
        peak_bytes, e2e_bytes = method.saved_bytes(), e2e.saved_bytes()
    name = f"{case.name}, ResNet-32 K=16, batch 64"
    return [
        Row.median(name, "step", (1e3 * ours for ours, _, _ in rounds), "ms"),
        Row.median(name, "step time over plain e2e", (ours / plain for ours, _, plain in rounds), "ratio"),
        Row.median(name, "step time over e2e", (ours / e2e for ours, e2e, _ in rounds), "ratio"),
        Row(name, "saved bytes over e2e", peak_bytes / e2e_bytes, "ratio"),
        Row(name, "saved bytes a sample", peak_bytes / config.data.batch_size, "bytes"),
    ]


def _memory(cases: Sequence[Case], overrides: Sequence[str]) -> list[Row]:
    options, rows = (*_MEMORY, *overrides), []
    baseline = _count_bytes(compose(*options, "method=e2e"))
    for case in cases:
        config = compose(*options, *case.options, *case.cut(55))
        peaks, name = _count_bytes(config), f"{case.name}, ResNet-110 K=55"
        rows += [Row(name, f"{what} over e2e", peaks[what] / baseline[what], "ratio") for what in peaks]
        rows += [Row(name, f"{what} a sample", peaks[what] / config.data.batch_size, "bytes") for what in peaks]
    return rows


def _count_bytes(config: RunConfig) -> dict[str, int]:
    with Contender(config, 1) as contender:
        peaks = {"saved bytes": contender.saved_bytes()}
        return peaks | ({"allocated bytes": contender.allocated_bytes()} if contender.is_on_gpu else {})
