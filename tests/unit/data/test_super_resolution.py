from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from isograd.data.batch import Batch
from isograd.data.dataset import DATASETS
from isograd.data.super_resolution import Centre, Crops, SuperResolution, SuperResolutionConfig, pair, resize
from isograd.errors import ConfigError, DataError
from tests.enlarging import config, source


def write_images(folder: Path, sizes: list[tuple[int, int]]) -> list[np.ndarray]:
    folder.mkdir()
    generator = np.random.Generator(np.random.PCG64(0))
    images = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    for row, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{row:02}.png")
    return images


@pytest.fixture
def small(tmp_path: Path) -> SuperResolutionConfig:
    write_images(tmp_path / "train", [(40, 48)] * 10)
    write_images(tmp_path / "test", [(33, 47), (64, 32)])
    return SuperResolutionConfig(
        name="super_resolution",
        path=str(tmp_path / "train"),
        test_path=str(tmp_path / "test"),
        batch_size=4,
        crop=8,
    )


def assert_equal(batches: Iterator[Batch], others: Iterator[Batch]) -> None:
    for batch, other in zip(batches, others, strict=True):
        assert torch.equal(batch.inputs["image"], other.inputs["image"]) and torch.equal(batch.index, other.index)
        assert torch.equal(batch.targets["high"], other.targets["high"]) and batch.number == other.number


def test_small_images_are_large_ones_made_smaller(small: SuperResolutionConfig) -> None:
    for scale in (2, 3, 4):
        source = SuperResolution(replace(small, scale=scale, crop=8)).open(0)
        batch = next(source.train(1))
        assert batch.inputs["image"].shape == (4, 3, 8, 8) and batch.inputs["image"].dtype == torch.uint8
        assert torch.equal(batch.inputs["image"], resize(batch.targets["high"], (8, 8)))


def test_images_to_test_on_come_whole_one_by_one_cut_to_a_multiple(small: SuperResolutionConfig) -> None:
    batches = list(SuperResolution(replace(small, scale=3)).open(0).test())
    assert [tuple(batch.targets["high"].shape) for batch in batches] == [(1, 3, 33, 45), (1, 3, 63, 30)]
    assert [tuple(batch.inputs["image"].shape) for batch in batches] == [(1, 3, 11, 15), (1, 3, 21, 10)]


def test_crops_depend_on_seed_epoch_and_batch_alone(small: SuperResolutionConfig) -> None:
    first, second = (SuperResolution(small).open(seed) for seed in (0, 1))
    assert_equal(first.train(2), SuperResolution(small).open(0).train(2))
    assert_equal(first.train(2, first=1), iter(list(first.train(2))[1:]))
    batches = [next(source.train(epoch)).targets["high"] for source, epoch in ((first, 1), (first, 2), (second, 1))]
    assert not torch.equal(batches[0], batches[1]) and not torch.equal(batches[0], batches[2])


def test_shards_are_the_rows_of_the_whole() -> None:
    whole = source(config())
    shards = [whole.shard(rank, 3) for rank in range(3)]
    for split in ("train", "test"):
        parts = zip(*(shard.train(1) if split == "train" else shard.test() for shard in shards), strict=True)
        joined = (
            Batch(
                {"image": torch.cat([batch.inputs["image"] for batch in batches])},
                {"high": torch.cat([batch.targets["high"] for batch in batches])},
                torch.cat([batch.index for batch in batches]),
                batches[0].number,
            )
            for batches in parts
        )
        assert_equal(whole.train(1) if split == "train" else whole.test(), joined)
    assert [[batch.size for batch in shard.test()] for shard in shards] == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_eight_positions_are_drawn() -> None:
    image = torch.arange(3 * 16 * 16, dtype=torch.int32).view(3, 16, 16)
    crops = Crops(8, 2, turns=True)
    cut = [crops.cut(image, (0.0, 0.0, (turn + 0.5) / 8)) for turn in range(8)]
    assert len({tuple(crop.flatten().tolist()) for crop in cut}) == 8
    assert torch.equal(Crops(8, 2, turns=False).cut(image, (0.0, 0.0, 0.9)), image)


def test_an_epoch_may_have_several_crops_of_each_image(small: SuperResolutionConfig) -> None:
    source = SuperResolution(replace(small, crops=3)).open(0)
    rows = torch.cat([batch.index for batch in source.train(1)])
    assert source.num_train == 30 and torch.equal(rows.sort().values, torch.arange(10).repeat_interleave(3))


def test_a_share_of_the_images_to_train_on_is_held_out(small: SuperResolutionConfig) -> None:
    source = SuperResolution(replace(small, valid=0.2)).open(0)
    assert (source.num_train, source.num_valid, source.num_test) == (8, 2, 2)
    assert [batch.size for batch in source.valid()] == [1, 1]
    identities = {SuperResolution(replace(small, valid=share)).identify().digest for share in (0, 0.2)}
    assert len(identities) == 2


def store(folder: Path, target: Path) -> None:
    """Writes the images of a folder to a Parquet file."""
    table = [{"bytes": file.read_bytes(), "path": file.name} for file in sorted(folder.iterdir())]
    target.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"image": table}), target)


def test_images_are_read_from_parquet_too(small: SuperResolutionConfig, tmp_path: Path) -> None:
    stored = tmp_path / "parquet"
    for split in ("train", "test"):
        store(tmp_path / split, stored / f"{split}-0.parquet")
    other = replace(small, path=str(stored), test_path=str(stored))
    assert_equal(SuperResolution(small).open(0).train(1), SuperResolution(other).open(0).train(1))
    store(tmp_path / "test", stored / "validation-0.parquet")
    assert [SuperResolution(replace(other, valid=share)).open(0).num_valid for share in (None, 0, 0.1)] == [2, 0, 2]


def test_only_files_of_a_split_are_tested_on(small: SuperResolutionConfig, tmp_path: Path) -> None:
    stored = tmp_path / "parquet"
    store(tmp_path / "train", stored / "train-0.parquet")
    for other in (replace(small, test_path=str(stored)), replace(small, test_path=small.path)):
        with pytest.raises(DataError, match=r"(there is no test-\*.parquet|would be read twice).*Use data.test_path"):
            SuperResolution(other).open(0)


def test_parquet_files_that_have_no_images_are_named(small: SuperResolutionConfig, tmp_path: Path) -> None:
    stored = tmp_path / "parquet"
    stored.mkdir()
    for table, words in (
        ({"image": [1, 2]}, "column 'image' of .* is int64"),
        ({"picture": [b"1"]}, "has no column 'image'"),
    ):
        pq.write_table(pa.table(table), stored / "train.parquet")
        with pytest.raises(DataError, match=words):
            SuperResolution(replace(small, path=str(stored))).open(0)
    (stored / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot read"):
        SuperResolution(replace(small, path=str(stored))).open(0)


def test_paths_are_of_this_user_and_of_this_folder(
    small: SuperResolutionConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    other = SuperResolution(replace(small, path="~/train", test_path="test"))
    assert other.identify() == SuperResolution(small).identify()


def test_images_may_be_made_smaller_first(small: SuperResolutionConfig) -> None:
    source = SuperResolution(replace(small, shrink=2, valid=0.1)).open(0)
    assert next(source.valid()).targets["high"].shape == (1, 3, 20, 24)


def test_the_entry_subtracts_the_mean_in_the_precision_of_the_network() -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    exact = Centre([0.1, 0.2, 0.3], 255).double()(pixels)
    assert exact[0, :, 0, 1].tolist() == [255 - 255 * 0.1, 255 - 255 * 0.2, 255 - 255 * 0.3]
    entry = Centre([0.1, 0.2, 0.3], 1.0).float()
    assert entry(pixels).dtype == torch.float32 and entry.restore(pixels).flatten().tolist() == pytest.approx(
        [0, 1] * 3
    )


def test_pairs_have_the_scale() -> None:
    low, high = pair(torch.zeros(1, 3, 19, 23, dtype=torch.uint8), 4)
    assert low.shape == (1, 3, 4, 5) and high.shape == (1, 3, 16, 20)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"path": "nowhere"}, "there are 0 images"),
        ({"crop": 30}, "pixels"),
        ({"shrink": 4}, "pixels"),
        ({"shrink": 41}, "data.shrink=41 leaves nothing of .*00.png"),
    ],
)
def test_images_that_cannot_be_used_are_refused(
    small: SuperResolutionConfig, options: dict[str, object], words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        SuperResolution(replace(small, **options)).open(0)  # pyright: ignore[reportArgumentType]
    assert len(caught.value.args) == 3


def test_a_file_that_is_no_image_is_named(small: SuperResolutionConfig) -> None:
    (Path(small.path) / "05.png").write_bytes(b"text")
    with pytest.raises(DataError, match=r"05\.png cannot be decoded"):
        SuperResolution(small).open(0)


def test_options_are_checked(small: SuperResolutionConfig) -> None:
    for options in ({"scale": 5}, {"mean": [0.5]}, {"crop": 4}):
        with pytest.raises(ConfigError):
            SuperResolution(replace(small, **options)).check()  # pyright: ignore[reportArgumentType]
    assert DATASETS.get("camvid_set5").kind is SuperResolution
