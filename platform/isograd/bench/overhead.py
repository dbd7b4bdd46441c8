"""What the platform costs: end-to-end training by isograd against a hand-written PyTorch loop of the same work.

Both train the same ResNet with the same data, augmentation, optimizer and number of threads, in the same process, in
turn; the median of the ratios is reported. The loop is what one would write without a platform: once in the memory
layout that isograd has chosen, so that the platform alone differs, and once in PyTorch's own. With
``precision.compile=true`` the loops are compiled too, with ``precision.dtype=bfloat16`` they autocast.
"""

import math
import time
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from isograd.bench.bench import BENCHES
from isograd.bench.rows import Row
from isograd.config.load import load
from isograd.data.memory import MemorySource
from isograd.data.synthetic import source
from isograd.display.measures import SPEED
from isograd.engine.blueprint import Blueprint
from isograd.engine.program import Program
from isograd.executors.sequential import SequentialExecutor, resolve_device

_LEAST_S = 0.5  # of what is timed at once; on a fast device an epoch takes less


@BENCHES.register("overhead")
def bench(quick: bool, overrides: Sequence[str]) -> list[Row]:
    """Measures the overhead of ``method=e2e executor=sequential``."""
    num_steps, num_rounds = (6, 3) if quick else (15, 7)
    common = ("model=resnet32", "data=parquet", "method=e2e", "executor=sequential", "data.padding=4", "data.flip=true")
    blueprint = Blueprint(load([*common, *overrides]))
    config = blueprint.config
    batches = source(blueprint.task.synthetic, num_steps, config.data.batch_size, blueprint.dataset.augmentation)
    channels_last = bool(config.precision.on(resolve_device(config.executor.device)).channels_last)
    loops = {
        "loop, same layout": _HandWritten(blueprint, batches, channels_last),
        "loop, plain": _HandWritten(blueprint, batches, False),
    }
    with SequentialExecutor(blueprint) as executor:
        sides = [_Ours(executor, batches), *loops.values()]
        for side in sides:
            side.epoch_s()  # warm up
        num_epochs = max(1, math.ceil(_LEAST_S / min(side.epoch_s() for side in sides)))
        rounds = [[_mean_s(side, num_epochs) for side in sides] for _ in range(num_rounds)]
    case, num_samples = _name_case(blueprint), num_steps * config.data.batch_size
    speeds = [[num_samples / times[side] for times in rounds] for side in range(len(sides))]
    rows = [Row.median(case, "isograd", speeds[0], SPEED.unit)]
    for number, name in enumerate(loops, start=1):
        ratios = (times[0] / times[number] for times in rounds)
        rows.append(Row.median(case, f"time over hand-written {name}", ratios, "ratio"))
        rows.append(Row.median(case, name, speeds[number], SPEED.unit))
    return rows


def _mean_s(side: "_Ours | _HandWritten", num_epochs: int) -> float:
    return sum(side.epoch_s() for _ in range(num_epochs)) / num_epochs


def _name_case(blueprint: Blueprint) -> str:
    config = blueprint.config
    words = ["e2e", blueprint.backbone.name, f"batch {config.data.batch_size}", "sequential"]
    words += [config.precision.dtype] if config.precision.dtype != "float32" else []
    return " ".join([*words, *(["compiled"] if config.precision.compile else [])])


class _Ours:
    """An epoch by the platform: events, metrics and guards included."""

    def __init__(self, executor: SequentialExecutor, batches: MemorySource) -> None:
        self._executor = executor
        self._program = Program(batches, num_epochs=1, evaluates=False)

    def epoch_s(self) -> float:
        started_s = time.perf_counter()
        for _ in self._executor.fit(self._program):
            pass
        _synchronize()
        return time.perf_counter() - started_s


class _HandWritten:
    """An epoch by hand."""

    def __init__(self, blueprint: Blueprint, batches: MemorySource, channels_last: bool) -> None:
        config = blueprint.config
        self._device = resolve_device(config.executor.device)
        self._model = nn.Sequential(*(unit.module for unit in Blueprint(config).backbone.units)).to(self._device)
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._model.to(memory_format=self._layout)  # pyright: ignore[reportCallIssue]
        if config.precision.compile:
            self._model.compile()
        self._is_half = config.precision.dtype == "bfloat16"
        self._optimizer = torch.optim.SGD(
            self._model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4
        )
        epoch = list(batches.train(1))
        self._pixels = torch.cat([batch.inputs["image"] for batch in epoch]).to(self._device)
        self._targets = torch.cat([batch.targets["label"] for batch in epoch]).to(self._device)
        self._batch_size = config.data.batch_size
        self._mean = torch.tensor(config.data.mean, device=self._device).view(3, 1, 1)
        self._std = torch.tensor(config.data.std, device=self._device).view(3, 1, 1)

    def epoch_s(self) -> float:
        started_s = time.perf_counter()
        self._model.train()
        total_loss, hits = 0.0, 0
        for rows in torch.randperm(len(self._targets)).split(self._batch_size):
            pixels, targets = self._augmented(self._pixels[rows]), self._targets[rows]
            images = ((pixels.float() / 255 - self._mean) / self._std).contiguous(memory_format=self._layout)
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._is_half):
                predictions = self._model(images)
                loss = F.cross_entropy(predictions, targets)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            total_loss += loss.detach() * len(rows)
            hits += (predictions.argmax(1) == targets).sum()
        _synchronize()
        return time.perf_counter() - started_s

    def _augmented(self, pixels: torch.Tensor) -> torch.Tensor:
        padded = F.pad(pixels, (4, 4, 4, 4), mode="reflect")
        windows = padded.unfold(2, 32, 1).unfold(3, 32, 1)
        rows, columns = torch.randint(9, (2, len(pixels)), device=pixels.device)
        cropped = windows[torch.arange(len(pixels), device=pixels.device), :, rows, columns]
        flipped = torch.rand(len(pixels), device=pixels.device) < 0.5
        return torch.where(flipped[:, None, None, None], cropped.flip(-1), cropped)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
