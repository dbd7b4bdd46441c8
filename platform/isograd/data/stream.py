"""Batches streamed by Ray Data, for data sets that do not fit into memory.

The order of an epoch is a function of (seed, epoch) alone: the row groups of the split are permuted and strung together
to *windows*, and the rows of a window are permuted. A window is one task of Ray Data, which reads, decodes and crops;
windows come back in order. An epoch can be entered at any batch, and what is skipped is not decoded. Torch is imported
where batches are made, not at the top: a worker that decodes takes 0.2 GB without it, 0.7 with.
"""

import copy
import itertools
import logging
import math
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import Future, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.random import default_rng

from isograd.data.crops import ImageTransform
from isograd.data.parquet import ParquetSplit
from isograd.data.rows import WHOLE, Part, Parted
from isograd.data.stored_images import decode_row
from isograd.data.windows import Window, cut_windows, skip_rows
from isograd.errors import ContractError, DataError, IsogradError

if TYPE_CHECKING:
    import torch

    from isograd.data.batch import Batch
    from isograd.data.transforms import BatchTransform

CHUNK = 128  # rows that a task decodes before it hands them on
BLOCK_BYTES = 16 * 2**20  # the default of 128 MiB delays the first batch by the decoding of 900 images of 224x224

Columns: TypeAlias = Generator[dict[str, np.ndarray], None, None]


class StreamSource(Parted):
    """Reads, decodes and transforms images in tasks of Ray Data. Implements :class:`~isograd.data.batch.Source`.

    Iterate it where Ray is initialised: in the driver, a task or an actor. It needs one CPU of the cluster that nobody
    has reserved. A worker holds the encoded images of one window (4,096 of ImageNet: about 450 MB), and Ray Data's
    back-pressure bounds the decoded ones in the object store.

    Args:
        train: Split to train on.
        valid: Split to validate on; a part without rows where there is none.
        test: Split to test on.
        batch_size: Images a batch, B.
        seed: Of the order, the transforms and the augmentation.
        train_transform: Applied to each image to train on.
        test_transform: Applied to each image to validate or test on.
        augmentation: Applied to each batch to train on, after the transform.
        window: Rows that are permuted together, at least; whole row groups.
        first_batch_timeout_s: How long an epoch may take to deliver its first batch.
    """

    def __init__(
        self,
        train: ParquetSplit,
        valid: ParquetSplit,
        test: ParquetSplit,
        *,
        batch_size: int,
        seed: int,
        train_transform: ImageTransform,
        test_transform: ImageTransform,
        augmentation: "BatchTransform",
        window: int = 4096,
        first_batch_timeout_s: float = 60.0,
    ) -> None:
        import torch

        super().__init__((train.num_rows, valid.num_rows, test.num_rows), batch_size)
        self.seed, self.augmentation = seed, augmentation
        self.window, self.first_batch_timeout_s = window, first_batch_timeout_s
        self._train, self._train_transform = train, train_transform
        self._valid, self._test, self._test_transform = valid, test, test_transform
        self._device = torch.device("cpu")

    def on(self, device: "torch.device") -> "StreamSource":
        """Returns the source with its batches on ``device``."""
        moved = copy.copy(self)
        moved._device = device
        return moved

    def train(self, epoch: int, first: int = 0) -> "Iterator[Batch]":
        """Yields the batches of ``epoch`` (from 1), from number ``first`` on.

        Raises:
            DataError: Ray is not running or has no CPU left, or a row cannot be read; the message names file and row.
        """
        from isograd.seeding import derive, generator

        windows = skip_rows(self.windows(epoch), first * self.batch_size)
        decoder = self._decoder(self._train, self._train_transform, derive(self.seed, "image", epoch), windows, first)
        with closing(self._stream(decoder)) as batches:
            for batch in batches:
                size = min(self.batch_size, self.num_train - batch.number * self.batch_size)
                draws = self.augmentation.draw(size, generator(self.seed, "augment", epoch, batch.number))
                places = self._part.of(size, batch.number)
                yield self.augmentation.apply(batch, {name: drawn[places] for name, drawn in draws.items()})

    def valid(self) -> "Iterator[Batch]":
        """Yields the validation split in order, not augmented. Raises DataError as :meth:`train` does."""
        return self._in_order(self._valid)

    def test(self) -> "Iterator[Batch]":
        """Yields the test split in order, not augmented. Raises DataError as :meth:`train` does."""
        return self._in_order(self._test)

    def _in_order(self, split: ParquetSplit) -> "Iterator[Batch]":
        windows = cut_windows(split.groups, self.window)
        return self._stream(self._decoder(split, self._test_transform, 0, windows))

    def _decoder(
        self, split: ParquetSplit, transform: ImageTransform, seed: int, windows: list[Window], first: int = 0
    ) -> "WindowDecoder":
        return WindowDecoder(split, transform, seed, windows, self._part, self.batch_size, first)

    def windows(self, epoch: int) -> list[Window]:
        """Returns the windows of ``epoch`` in order."""
        from isograd.seeding import derive

        groups = self._train.groups
        order = default_rng(derive(self.seed, "row groups", epoch)).permutation(len(groups))
        windows = cut_windows([groups[place] for place in order], self.window)
        return [replace(window, seed=derive(self.seed, "window", epoch, n)) for n, window in enumerate(windows)]

    def _stream(self, decoder: "WindowDecoder") -> "Generator[Batch, None, None]":
        if not decoder.num_rows:
            return
        require_free_cpu()
        first = decoder.first
        last = first + math.ceil(decoder.num_rows / self.batch_size) - 1
        is_idle = not self._part.size(decoder.num_rows % self.batch_size or self.batch_size, last)  # in the last batch
        if is_idle and first == last:  # the images of others say what an empty batch looks like
            decoder = replace(decoder, part=WHOLE)
        number = first - 1
        with _translate_errors():
            columns = _start(decoder, decoder.part.size(self.batch_size, first))
            head = _wait_for_first(columns, self.first_batch_timeout_s)
            with closing(columns):  # frees the CPUs at once where the consumer leaves early
                for number, batch in enumerate(itertools.chain([head], columns), first):
                    if not (is_idle and number == last):
                        yield _to_batch(batch, number).to(self._device)
                if is_idle and number >= last - 1:
                    number = last
                    yield _to_batch({name: column[:0] for name, column in head.items()}, last).to(self._device)
        assert number == last, "Ray Data lost rows"


@dataclass(frozen=True)
class WindowDecoder:
    """What a task does: reads one window and yields its images, transformed, in the order of the epoch.

    Attributes:
        split: Reads the rows, and names them in messages.
        transform: Applied to each image.
        seed: Names, with the row, what ``transform`` draws.
        windows: The windows to stream; the first one begins with a batch.
        part: The worker's, of every batch.
        batch_size: Samples of a global batch, B.
        first: Number of the batch that the first window begins with.
    """

    split: ParquetSplit
    transform: ImageTransform
    seed: int
    windows: list[Window]
    part: Part = WHOLE
    batch_size: int = 1
    first: int = 0

    @property
    def num_rows(self) -> int:
        """Rows that all workers stream."""
        return sum(window.num_rows - window.skip for window in self.windows)

    def __call__(self, item: Any) -> Iterator[dict[str, np.ndarray]]:
        """Yields columns ``image`` (n, C, H, W), ``label`` (n,) and ``index`` (n,) of window number ``item``."""
        try:
            yield from self.decode(int(item["item"][0]))
        except IsogradError as error:
            raise TaskError(error) from error.__cause__

    def decode(self, number: int) -> Iterator[dict[str, np.ndarray]]:
        """Yields the columns of a window, ``CHUNK`` rows at a time."""
        window = self.windows[number]
        order = window.order()
        skipped = self.first * self.batch_size
        begin = skipped + sum(before.num_rows - before.skip for before in self.windows[:number])
        order = order[self.part.holds(begin + np.arange(len(order)), self.batch_size, skipped + self.num_rows)]
        parts = [self.split.read(group) for group in window.groups]
        encoded = pa.chunked_array([chunk for images, _ in parts for chunk in images.chunks])
        labels = np.concatenate([labels for _, labels in parts])
        index = np.concatenate([np.arange(group.first, group.first + group.num_rows) for group in window.groups])
        for start in range(0, len(order), CHUNK):
            places = order[start : start + CHUNK]
            images = [
                decode_row(self.split, row, encoded[place].as_py(), self.transform, default_rng([self.seed, row]))
                for place, row in zip(places.tolist(), index[places].tolist(), strict=True)
            ]
            yield {"image": _stack(images, self.transform), "label": labels[places], "index": index[places]}


class TaskError(Exception):
    """Carries an ``error`` of ours out of a task; Ray Data appends its ``advice`` to whatever is raised there."""

    def __init__(self, error: IsogradError, *advice: str) -> None:
        super().__init__(error, *advice)
        self.error = error


def require_free_cpu() -> None:
    """Raises DataError where Ray is not running, or placement groups leave no CPU to the tasks of Ray Data.

    Actors outside of placement groups look like tasks, which end; for them the time-out of the first batch has to do.
    """
    import ray
    from ray.util import placement_group_table

    if not ray.is_initialized():
        raise DataError(
            "Ray is not initialised",
            "Images of a streamed data set are decoded in tasks of Ray Data",
            "Call ray.init() first, or use data.loading=memory.",
        )
    groups = [group for group in placement_group_table().values() if group["state"] == "CREATED"]
    reserved = sum(bundle.get("CPU", 0) for group in groups for bundle in group["bundles"].values())
    total = ray.cluster_resources().get("CPU", 0)
    if total - reserved < 1:
        raise _no_cpu(f"placement groups reserve {reserved:g} of the cluster's {total:g} CPUs")


def _no_cpu(what: str) -> DataError:
    return DataError(
        what,
        "Ray Data decodes images in tasks of 1 CPU each, and waits without a word where there is none for them",
        "Use one more CPU (cluster.num_cpus=N, or a larger cluster), or fewer for stages (executor.cpus_per_stage=N).",
    )


def _start(decoder: WindowDecoder, batch_size: int) -> Columns:
    """Returns a generator of batches; Ray Data starts with the first."""
    import ray.data

    _silence_console()
    num_windows = len(decoder.windows)
    items = ray.data.from_items(list(range(num_windows)), override_num_blocks=num_windows)
    context = items.context  # a copy of the process's, shared with data sets derived from this one
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    context.execution_no_progress_timeout_s = -1  # 30 minutes by default, which a consumer may well spend elsewhere
    context.target_max_block_size = BLOCK_BYTES
    images = items.map_batches(decoder, batch_size=1, batch_format="numpy", num_cpus=1)
    return iter(images.iter_batches(batch_size=batch_size, batch_format="numpy"))  # pyright: ignore[reportReturnType]


def _silence_console() -> None:
    """Keeps what Ray Data logs off the console. The log file of Ray's session and the handlers of others stay."""
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler) and type(handler).__module__.startswith("ray."):
            handler.setLevel(logging.CRITICAL)


def _wait_for_first(columns: Columns, timeout_s: float) -> dict[str, np.ndarray]:
    """Returns the first batch. Raises DataError where it takes longer; a batch that comes later ends the stream."""
    arrived: Future[dict[str, np.ndarray]] = Future()

    def advance() -> None:
        try:
            arrived.set_result(next(columns))
        except BaseException as error:
            arrived.set_exception(error)

    threading.Thread(target=advance, name="first-batch", daemon=True).start()
    if not wait([arrived], timeout_s).done:
        arrived.add_done_callback(lambda _: columns.close())
        raise _too_late(timeout_s)
    return arrived.result()


def _too_late(timeout_s: float) -> DataError:
    import ray

    free, total = (resources.get("CPU", 0) for resources in (ray.available_resources(), ray.cluster_resources()))
    what = f"no batch arrived within first_batch_timeout_s={timeout_s:g}; {free:g} of {total:g} CPUs are free"
    if free < 1:
        return _no_cpu(what)
    return DataError(what, "The first window takes longer to read and decode", "Use a smaller data.window.")


def _to_batch(columns: dict[str, np.ndarray], number: int) -> "Batch":
    """Copies what lies in the shared, read-only memory of Ray's object store: torch would write to it."""
    import torch

    from isograd.data.batch import Batch

    image, label, index = (
        torch.from_numpy(column if column.flags.writeable else column.copy())
        for column in (columns["image"], columns["label"], columns["index"])
    )
    return Batch({"image": image}, {"label": label}, index, number)


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Turns what Ray raises into the error that a task raised, or one that says which setting to change."""
    from ray.exceptions import RayError

    try:
        yield
    except RayError as error:
        if ours := _find_error(error):
            raise ours from (None if isinstance(ours, DataError) else error)
        raise DataError(
            f"the stream of images broke ({type(error).__name__}: {error})",
            "A worker of Ray Data failed",
            "Use a smaller data.window if it ran out of memory; else see the log ray-data of Ray's session.",
        ) from error


def _find_error(error: BaseException | None) -> IsogradError | None:
    while error is not None:
        if type(error) is TaskError:
            return error.error
        error = getattr(error, "cause", None) or error.__cause__
    return None


def _stack(images: list[np.ndarray], transform: ImageTransform) -> np.ndarray:
    kinds = {(image.shape, image.dtype.name) for image in images}
    if len(kinds) == 1 and images[0].ndim == 3 and images[0].dtype == np.uint8:
        return np.stack(images)
    raise ContractError(
        f"{transform} returned images of {len(kinds)} kinds: {', '.join(map(str, sorted(kinds)[:3]))}",
        "Images of a batch are stacked",
        "Let it return (C, H, W) uint8 of one size.",
    )
