"""What it costs to bring an activation from one stage to the next, by each channel that can serve here.

Two stages that compute nothing run as a pipeline with its own queue depth. One-way latency is the time from the call of
``send`` to the moment at which the receiver's compute thread holds a usable tensor, with nothing else under way; both
stages read the same host's clock. Bandwidth is sustained, with the queue full. Channels take turns, one pipeline at a
time.
"""

import logging
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from time import sleep

import torch

from isograd.bench.bench import BENCHES
from isograd.bench.rows import Row
from isograd.bench.workload import collect_reports, make_tiny_program
from isograd.channels.channel import CHANNELS
from isograd.channels.outbox import Nowhere
from isograd.cluster.config import ClusterConfig
from isograd.cluster.connection import connected
from isograd.config.load import load
from isograd.engine.stage import Stage
from isograd.errors import ChannelError
from isograd.events.events import Event
from isograd.executors.pipeline.config import PipelinedConfig
from isograd.executors.pipeline.pipeline import Pipeline
from isograd.local.message import Message
from isograd.models.backbone import MAIN

KIB, MIB = 2**10, 2**20
SIZES = {f"{size} KiB": size * KIB for size in (1, 64)} | {f"{size} MiB": size * MIB for size in (1, 4, 8, 16, 64)}
_QUICK_SIZES = ("1 KiB", "1 MiB", "4 MiB", "16 MiB")
_NUM_SKIPPED = 1  # the first message of a run meets cold memory
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Transfer:
    """A run of the pipeline: ``count`` messages of ``size_bytes``, at least ``gap_s`` apart."""

    size_bytes: int
    count: int
    gap_s: float


class TransferStage(Stage):
    """Sends activations, or only takes them, and notes when; one transfer a program, in order."""

    def __init__(self, index: int, device: torch.device, transfers: Iterable[Transfer]) -> None:
        super().__init__(index, [], Nowhere(), device=device)
        self._transfers = iter(transfers)

    def run(self, messages: Iterable[Message]) -> Iterator[Event]:
        """Works through the next transfer."""
        self._transfer = next(self._transfers)
        self._activation = torch.randn(self._transfer.size_bytes // 4, device=self.device)
        yield from super().run(messages)

    def _train(self, message: Message) -> None:
        if self.index == 0:
            sleep(self._transfer.gap_s)
        self._stepped(0)
        self.outbox.send(message.carrying({MAIN: self._activation}))


@dataclass(frozen=True)
class TransferBuilder:
    """Builds a transfer stage in its actor."""

    index: int
    transfers: tuple[Transfer, ...]

    def __call__(self, device: torch.device) -> Stage:
        """Builds the stage."""
        return TransferStage(self.index, device, self.transfers)


@BENCHES.register("channels")
def bench(quick: bool, overrides: Sequence[str]) -> list[Row]:
    """Measures latency and bandwidth by size; of the overrides, the executor's part counts."""
    executor = PipelinedConfig.of(load(list(overrides)).executor)
    sizes = [SIZES[name] for name in (_QUICK_SIZES if quick else SIZES)]
    transfers = [_plan_transfer(size, is_spaced, quick) for size in sizes for is_spaced in (True, False)]
    measured: dict[tuple[str, Transfer], list[float]] = {}
    serving = list(CHANNELS)
    with connected(ClusterConfig(), queued_bytes=max(sizes) * (executor.queue_depth + 2)):
        for _ in range(1 if quick else 5):
            for name in list(serving):
                values = _run_all(replace(executor, channel=name), transfers)
                if not values:
                    serving.remove(name)
                for transfer, value in values:
                    measured.setdefault((name, transfer), []).append(value)
    return [_row(name, transfer, values) for (name, transfer), values in measured.items()]


def _plan_transfer(size_bytes: int, is_spaced: bool, quick: bool) -> Transfer:
    mib = size_bytes / MIB
    if is_spaced:
        return Transfer(size_bytes, _NUM_SKIPPED + (5 if quick else 10), 0.005 + 0.003 * mib)
    return Transfer(size_bytes, _NUM_SKIPPED + int(min(max((128 if quick else 256) / mib, 8), 100)), 0.0)


def _run_all(executor: PipelinedConfig, transfers: Sequence[Transfer]) -> list[tuple[Transfer, float]]:
    """Runs all transfers by one channel; none where it cannot serve, with the reason as a warning."""
    builders = [TransferBuilder(index, tuple(transfers)) for index in range(2)]
    try:
        with Pipeline(builders, executor, ClusterConfig(), records_steps=True) as pipeline:
            return [(transfer, _measure(pipeline, transfer)) for transfer in transfers]
    except ChannelError as error:
        _LOG.warning("%s", error)
        return []


def _measure(pipeline: Pipeline, transfer: Transfer) -> float:
    """Returns the median latency in ms of a spaced transfer, the bandwidth in MiB/s of another."""
    reports = collect_reports(pipeline.fit(make_tiny_program(transfer.count)))
    sent_s, arrived_s = (report.step_ends_s[_NUM_SKIPPED:] for report in reports)
    if transfer.gap_s:
        return statistics.median(after - before for before, after in zip(sent_s, arrived_s, strict=True)) * 1e3
    return transfer.size_bytes / MIB * (len(arrived_s) - 1) / (arrived_s[-1] - arrived_s[0])


def _row(channel: str, transfer: Transfer, values: Sequence[float]) -> Row:
    size = next(name for name, size_bytes in SIZES.items() if size_bytes == transfer.size_bytes)
    metric, unit = ("one-way latency", "ms") if transfer.gap_s else ("bandwidth", "MiB/s")
    return Row.median(f"{channel} {size}", metric, values, unit)
