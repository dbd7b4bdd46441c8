"""Streamed batches: order, resumption, errors, and what is left of the cluster. Ray Data is real throughout."""

import io
import logging
import math
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from isograd.data.batch import Batch, Source
from isograd.data.crops import Exact, RandomResizedCrop, ResizeCenterCrop
from isograd.data.parquet import find_splits
from isograd.data.stored_images import load_images
from isograd.data.stream import StreamSource
from isograd.data.transforms import Augmentation
from isograd.errors import ContractError, DataError
from tests.processes import HUNG_S, wait_until
from tests.unit.data.folders import find_split
from tests.unit.data.sources import same, whole

CIFAR10 = Path(__file__).parents[4] / "shared" / "data" / "cifar10"
NUM_TRAIN, NUM_TEST, BATCH = 230, 70, 16
EXACT = Exact((3, 8, 8))


def encode(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, first: int, count: int, **broken: bytes) -> None:
    """Rows from ``first`` on, in groups of 40: pixel (0, 0) is the row, and its label the row modulo 7."""
    pixels = np.random.default_rng(first).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    pixels[:, 0, 0, 0] = np.arange(first, first + count)
    images = [{"bytes": broken.get(f"row{i}", encode(image)), "path": None} for i, image in enumerate(pixels)]
    pq.write_table(pa.table({"image": images, "label": np.arange(first, first + count) % 7}), path, row_group_size=40)


def write_all(folder: Path, **broken: bytes) -> Path:
    """Two files of training images, 120 + 110; ``broken`` are bytes to store instead, in the second."""
    write(folder / "train-00000-of-00002.parquet", 0, 120)
    write(folder / "train-00001-of-00002.parquet", 120, NUM_TRAIN - 120, **broken)
    write(folder / "test-00000-of-00001.parquet", 0, NUM_TEST)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("data"))


def open_source(folder: Path, **changes: Any) -> StreamSource:
    options: dict[str, Any] = {
        "batch_size": BATCH,
        "seed": 3,
        "train_transform": EXACT,
        "test_transform": EXACT,
        "augmentation": Augmentation(),
        "window": 64,
        "first_batch_timeout_s": HUNG_S,
    }
    return StreamSource(*find_splits(folder, "test"), **{**options, **changes})


@pytest.fixture
def random_source(folder: Path) -> StreamSource:
    """Draws random numbers in every place."""
    return open_source(
        folder, train_transform=RandomResizedCrop((3, 6, 6)), augmentation=Augmentation(padding=2, flip=True)
    )


def refusal(*parts: str):
    """Expects a DataError whose text has all the parts, in this order."""
    return pytest.raises(DataError, match="(?s)" + ".*".join(parts))


def wait_for_cpus(number: float) -> None:
    import ray

    found: list[float] = []

    def are_free() -> bool:
        found.append(ray.available_resources().get("CPU", 0))
        return found[-1] == number

    assert wait_until(are_free), f"{found[-1]} CPUs free, not {number}"


def test_source_is_a_source_and_picklable(folder: Path):
    source: Source = open_source(folder)
    assert (source.num_train, source.num_test, source.batch_size) == (NUM_TRAIN, NUM_TEST, BATCH)
    assert len(pickle.dumps(source)) < 5000


def test_windows_differ_between_epochs_and_seeds_and_cover_all_rows(folder: Path):
    source = open_source(folder)
    orders = []
    for windows in (source.windows(1), source.windows(2), open_source(folder, seed=4).windows(1)):
        firsts = [np.concatenate([np.arange(g.first, g.first + g.num_rows) for g in w.groups]) for w in windows]
        orders.append(np.concatenate([rows[w.order()] for rows, w in zip(firsts, windows, strict=True)]).tolist())
        assert sorted(orders[-1]) == list(range(NUM_TRAIN))
    assert orders[0] != orders[1] and orders[0] != orders[2]
    assert source.windows(1) == open_source(folder).windows(1)


@pytest.mark.usefixtures("ray_session")
class TestOrder:
    def test_only_the_console_of_ray_data_is_silent(self, folder: Path):
        logger, mine = logging.getLogger("ray.data"), logging.StreamHandler(io.StringIO())
        logger.addHandler(mine)
        try:
            next(iter(open_source(folder).train(1)))
            of_ray = [handler for handler in logger.handlers if type(handler).__name__ == "PlainRayHandler"]
            assert of_ray and {handler.level for handler in of_ray} == {logging.CRITICAL}
            assert mine.level == logging.NOTSET
        finally:
            logger.removeHandler(mine)

    def test_each_row_occurs_once_with_its_own_image_and_label(self, folder: Path):
        batches = list(open_source(folder).train(1))
        assert [batch.number for batch in batches] == list(range(15))
        assert [batch.size for batch in batches] == [BATCH] * 14 + [NUM_TRAIN % BATCH]
        index = torch.cat([batch.index for batch in batches])
        assert sorted(index.tolist()) == list(range(NUM_TRAIN)) and index.tolist() != list(range(NUM_TRAIN))
        pixels = torch.cat([batch.inputs["image"] for batch in batches])
        assert pixels.dtype == torch.uint8 and index.dtype == torch.int64
        stored, targets = load_images(find_split(folder, "train"), (3, 8, 8), 7)
        assert torch.equal(pixels, stored[index])
        assert torch.equal(torch.cat([batch.targets["label"] for batch in batches]), targets[index])

    def test_an_epoch_is_the_same_every_time_and_unlike_the_next(self, random_source: StreamSource):
        first = list(random_source.train(1))
        assert same(first, list(pickle.loads(pickle.dumps(random_source)).train(1)))
        assert not torch.equal(first[0].index, next(iter(random_source.train(2))).index)

    @pytest.mark.parametrize("first", [1, 5, 14])
    def test_a_resumed_epoch_is_the_tail_of_the_whole(self, random_source: StreamSource, first: int):
        assert same(list(random_source.train(2, first)), list(random_source.train(2))[first:])

    def test_nothing_follows_the_last_batch(self, folder: Path):
        assert list(open_source(folder).train(1, 15)) == []

    def test_test_rows_come_in_order_and_unaugmented(self, random_source: StreamSource, folder: Path):
        batches = list(random_source.test())
        assert [batch.size for batch in batches] == [BATCH] * 4 + [NUM_TEST % BATCH]
        assert torch.cat([batch.index for batch in batches]).tolist() == list(range(NUM_TEST))
        stored, targets = load_images(find_split(folder, "test"), (3, 8, 8), 7)
        assert torch.equal(torch.cat([batch.inputs["image"] for batch in batches]), stored)
        assert torch.equal(torch.cat([batch.targets["label"] for batch in batches]), targets)

    @pytest.mark.parametrize("world", [1, 2, 3])
    def test_the_parts_of_all_workers_are_the_whole(self, random_source: StreamSource, world: int):
        shards = [random_source.shard(rank, world) for rank in range(world)]
        assert same(list(random_source.train(2, 5)), whole([shard.train(2, 5) for shard in shards]))
        assert same(list(random_source.test()), whole([shard.test() for shard in shards]))

    def test_a_worker_may_have_no_row_of_the_last_batch(self, folder: Path):
        source = open_source(folder, batch_size=19, window=100)  # 230 rows leave 2, 70 leave 13
        shards = [source.shard(rank, 3) for rank in range(3)]
        assert [[batch.size for batch in shard.train(1)][-1] for shard in shards] == [0, 1, 1]
        assert same(list(source.train(1)), whole([shard.train(1) for shard in shards]))
        source = open_source(folder, batch_size=76, window=100)  # 230 rows leave 2 in the last of 4 batches
        shards = [source.shard(rank, 3) for rank in range(3)]
        assert same(list(source.train(1, 3)), whole([shard.train(1, 3) for shard in shards]))
        source = open_source(folder, batch_size=229, window=100)  # 230 rows leave 1
        shards = [source.shard(rank, 3) for rank in range(3)]
        assert [[batch.size for batch in shard.train(1)][-1] for shard in shards] == [0, 1, 0]
        for first in (0, 1):
            assert same(list(source.train(1, first)), whole([shard.train(1, first) for shard in shards]))

    def test_window_and_batch_of_any_size(self, folder: Path):
        for window, batch_size in ((1, 7), (10_000, 1000)):
            batches = list(open_source(folder, window=window, batch_size=batch_size).train(1))
            assert sorted(torch.cat([batch.index for batch in batches]).tolist()) == list(range(NUM_TRAIN))

    def test_an_actor_gets_the_same_batches(self, random_source: StreamSource):
        import ray

        @ray.remote(num_cpus=1)
        class Stage:
            def batches(self, source: StreamSource) -> list[Batch]:
                return list(source.train(1))

        actor: Any = Stage.remote()  # type: ignore[attr-defined]
        assert same(ray.get(actor.batches.remote(random_source)), list(random_source.train(1)))
        ray.kill(actor)

    def test_batches_may_be_written_to(self, folder: Path):
        for batch in open_source(folder, batch_size=NUM_TRAIN, window=10_000).train(1):
            for tensor in (batch.inputs["image"], batch.targets["label"], batch.index):
                tensor.add_(1)

    @pytest.mark.skipif(not CIFAR10.is_dir(), reason=f"no CIFAR-10 in {CIFAR10}")
    def test_cifar10_streams_what_memory_holds(self):
        split = find_split(CIFAR10, "test")
        source = StreamSource(
            *(split, split, split),
            batch_size=500,
            seed=0,
            train_transform=Exact((3, 32, 32)),
            test_transform=Exact((3, 32, 32)),
            augmentation=Augmentation(),
        )
        stored, targets = load_images(split, (3, 32, 32), 10)
        for batch in source.train(1):
            assert torch.equal(batch.inputs["image"], stored[batch.index])
            assert torch.equal(batch.targets["label"], targets[batch.index])


@pytest.mark.usefixtures("ray_session")
class TestErrors:
    @pytest.mark.parametrize(
        "broken", [b"no image", encode(np.zeros((8, 8, 3), np.uint8))[:45]], ids=["unknown", "truncated"]
    )
    def test_corrupt_image(self, tmp_path: Path, broken: bytes):
        source = open_source(write_all(tmp_path, row17=broken))
        with refusal("the image in row 17 of .*train-00001-of-00002.parquet cannot be decoded", "Replace") as caught:
            list(source.train(1))
        assert "Ray Data" not in str(caught.value) and pickle.loads(pickle.dumps(caught.value)).what
        wait_for_cpus(8)

    def test_rows_that_are_skipped_are_not_decoded(self, tmp_path: Path):
        healthy = open_source(write_all(tmp_path))
        order = torch.cat([batch.index for batch in healthy.train(1)]).tolist()
        place = next(place for place, row in enumerate(order) if row >= 120)
        source = open_source(write_all(tmp_path, **{f"row{order[place] - 120}": b"no image"}))
        first = place // BATCH + 1
        assert same(list(source.train(1, first)), list(healthy.train(1, first)))
        with refusal("cannot be decoded"):
            list(source.train(1, first - 1))

    def test_image_of_another_size(self, tmp_path: Path):
        source = open_source(write_all(tmp_path, row3=encode(np.zeros((8, 9, 3), np.uint8))))
        with refusal("an image is 8x9, not 8x8: row 3 of .*train-00001", "data.loading=stream data.crop=random"):
            list(source.train(1))

    def test_transform_that_breaks_its_promise(self, folder: Path):
        class Ragged:
            def __call__(self, image: Image.Image, generator: np.random.Generator) -> np.ndarray:
                return np.zeros((3, 8, 8 + int(generator.integers(2))), np.uint8)

        with pytest.raises(ContractError, match=r"returned images of 2 kinds.*Images of a batch are stacked"):
            list(open_source(folder, train_transform=Ragged()).train(1))

    def test_transform_with_a_bug(self, folder: Path):
        class Buggy:
            def __call__(self, image: Image.Image, generator: np.random.Generator) -> np.ndarray:
                raise ZeroDivisionError("deliberate")

        with pytest.raises(ContractError, match=r"failed on row \d+ of .*ZeroDivisionError\('deliberate'\)") as caught:
            list(open_source(folder, train_transform=Buggy()).train(1))
        assert "raise ZeroDivisionError" in str(caught.value.__cause__)

    def test_file_that_vanished(self, tmp_path: Path):
        source = open_source(write_all(tmp_path))
        (tmp_path / "train-00001-of-00002.parquet").unlink()
        with refusal("cannot read .*train-00001-of-00002.parquet"):
            list(source.train(1))


@pytest.mark.usefixtures("ray_session")
class TestCluster:
    def test_placement_groups_that_reserve_all_cpus_are_refused_at_once(self, folder: Path):
        import ray
        from ray.util import placement_group, remove_placement_group

        group = placement_group([{"CPU": 4}, {"CPU": 3.5}])
        ray.get(group.ready())
        with refusal("reserve 7.5 of the cluster's 8 CPUs", "num_cpus"):
            next(iter(open_source(folder).train(1)))
        remove_placement_group(group)
        wait_for_cpus(8)

    def test_actors_that_hold_all_cpus_run_into_the_time_out(self, folder: Path):
        import ray

        @ray.remote(num_cpus=8)
        class Greedy:
            def ready(self) -> bool:
                return True

        actor: Any = Greedy.remote()  # type: ignore[attr-defined]
        assert ray.get(actor.ready.remote())
        with refusal("first_batch_timeout_s=0.5; 0 of 8 CPUs are free", "num_cpus"):
            next(iter(open_source(folder, first_batch_timeout_s=0.5, window=10_000).train(1)))
        ray.kill(actor)
        assert len(list(open_source(folder, window=10_000).train(1))) == 15
        wait_for_cpus(8)  # what had been waiting has been given up

    def test_slow_first_window_is_told_apart(self, folder: Path):
        class Slow:
            def __call__(self, image: Image.Image, generator: np.random.Generator) -> np.ndarray:
                time.sleep(0.01)
                return np.zeros((3, 8, 8), np.uint8)

        with refusal("first_batch_timeout_s=0.3; [1-8] of 8 CPUs are free", "The first window takes longer"):
            next(iter(open_source(folder, train_transform=Slow(), first_batch_timeout_s=0.3).train(1)))
        wait_for_cpus(8)

    def test_leaving_early_frees_the_cluster(self, folder: Path):
        batches = open_source(folder).train(1)
        next(batches)
        batches.close()  # type: ignore[attr-defined]
        wait_for_cpus(8)

    def test_it_is_silent_and_leaves_the_settings_of_ray_data(self, folder: Path, capfd: pytest.CaptureFixture[str]):
        import ray.data

        list(open_source(folder).test())
        assert "".join(capfd.readouterr()) == ""
        context = ray.data.DataContext.get_current()
        assert context.enable_progress_bars and not context.execution_options.preserve_order


def test_without_ray(folder: Path):
    code = f"""
import sys
from isograd.data.parquet import find_splits
from isograd.data.stream import StreamSource
from isograd.data.crops import Exact
assert "torch" not in sys.modules, "workers import this"
from isograd.data.transforms import Augmentation
splits = find_splits({str(folder)!r}, "test")
exact = Exact((3, 8, 8))
source = StreamSource(
    *splits, batch_size=2, seed=0, train_transform=exact, test_transform=exact, augmentation=Augmentation()
)
next(source.train(1))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "DataError: Ray is not initialised. " in done.stderr and "Call ray.init() first" in done.stderr


def image_of(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(("width", "height"), [(40, 30), (30, 41), (25, 25)])
def test_resize_center_crop_is_torchvisions(width: int, height: int):
    from torchvision.transforms import CenterCrop, Resize

    image = image_of(width, height)
    expected = np.asarray(CenterCrop(17)(Resize(20)(image))).transpose(2, 0, 1)
    assert np.array_equal(ResizeCenterCrop((3, 17, 17), 20)(image, np.random.default_rng(0)), expected)


@pytest.mark.parametrize("shape", [(1, 24, 32), (3, 32, 24), (1, 20, 20)])
@pytest.mark.parametrize(("width", "height"), [(100, 100), (40, 90), (90, 40), (25, 33)])
def test_any_shape_is_covered_by_the_image(shape: tuple[int, int, int], width: int, height: int):
    white = Image.new("RGB", (width, height), "white")
    crop = ResizeCenterCrop(shape, min(shape[1:]) * 8 // 7)
    pixels = crop(white, np.random.default_rng(0))
    assert pixels.shape == shape and pixels.min() == 255
    scaled = crop.scaled_size(width, height)
    assert abs(scaled[0] / width - scaled[1] / height) < 0.04
    assert RandomResizedCrop(shape)(white, np.random.default_rng(0)).shape == shape


def test_random_resized_crop_draws_boxes_of_the_asked_area_and_ratio():
    crop, generator = RandomResizedCrop((3, 16, 16)), np.random.default_rng(0)
    boxes = np.array([crop.box(200, 200, generator) for _ in range(500)])
    left, top, right, bottom = boxes.T
    width, height = right - left, bottom - top
    assert (left >= 0).all() and (top >= 0).all() and (right <= 200).all() and (bottom <= 200).all()
    share, ratio = width * height / 200**2, width / height
    assert 0.075 < share.min() < 0.1 and 0.9 < share.max() <= 1.0
    assert 0.74 < ratio.min() < 0.8 and 1.25 < ratio.max() < 1.35
    assert abs(np.log(ratio).mean()) < 0.03


def test_random_resized_crop_falls_back_to_the_centre():
    assert RandomResizedCrop((3, 8, 8), scale=(2, 2)).box(400, 30, np.random.default_rng(0)) == (180, 0, 220, 30)
    assert RandomResizedCrop((3, 8, 8), scale=(2, 2)).box(30, 400, np.random.default_rng(0)) == (0, 180, 30, 220)


def test_random_resized_crop_is_torchvisions_resized_crop_and_flips_half():
    from torchvision.transforms.functional import resized_crop

    image: Any = image_of(40, 30)
    crop = RandomResizedCrop((3, 16, 16))
    flipped = 0
    for seed in range(100):
        left, top, right, bottom = crop.box(40, 30, np.random.default_rng(seed))
        expected = np.asarray(resized_crop(image, top, left, bottom - top, right - left, [16, 16])).transpose(2, 0, 1)
        pixels = crop(image, np.random.default_rng(seed))
        mirrored = not np.array_equal(pixels, expected)
        assert not mirrored or np.array_equal(pixels[:, :, ::-1], expected)
        flipped += mirrored
    assert abs(flipped - 50) < 3 * math.sqrt(25)


def test_transforms_convert_channels():
    image, generator = image_of(12, 12), np.random.default_rng(0)
    assert Exact((1, 12, 12))(image, generator).shape == (1, 12, 12)
    assert RandomResizedCrop((1, 8, 8))(image, generator).shape == (1, 8, 8)
    assert ResizeCenterCrop((3, 8, 8), 9)(image.convert("L"), generator).shape == (3, 8, 8)
