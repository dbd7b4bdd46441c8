"""Where rows lie, whether they are usable, and what they decode to."""

import io
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from isograd.data.decoding import decode
from isograd.data.label_checks import check_labels
from isograd.data.parquet import ParquetSplit, find_splits
from isograd.data.stored_images import load_images
from isograd.data.windows import RowGroup, Window, cut_windows, skip_rows
from isograd.errors import DataError
from tests.unit.data.folders import find_split

CIFAR10 = Path(__file__).parents[4] / "shared" / "data" / "cifar10"
needs_cifar10 = pytest.mark.skipif(not CIFAR10.is_dir(), reason=f"no CIFAR-10 in {CIFAR10}")


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, labels: list[int | None], images: list[bytes | None] | None = None, **names: str) -> Path:
    """Writes one file; the pixels of row i are i, plus the channel; row groups of 4."""
    if images is None:
        images = [png(np.full((5, 6, 3), i, np.uint8) + np.arange(3, dtype=np.uint8)) for i in range(len(labels))]
    column = [{"bytes": image, "path": None} for image in images]
    table = pa.table(
        {
            names.get("image", "image"): pa.array(column, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            names.get("label", "label"): pa.array(labels, pa.int64()),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=4)
    return path


@pytest.fixture
def split(tmp_path: Path) -> ParquetSplit:
    write(tmp_path / "train-00000-of-00002.parquet", [0, 1, 2, 0, 1, 2])
    write(tmp_path / "train-00001-of-00002.parquet", [2, 1, 0])
    return find_split(tmp_path, "train")


def test_find_split_counts_rows_of_all_files_in_order(split: ParquetSplit):
    assert split.row_groups == ((4, 2), (3,))
    assert split.num_rows == 9
    assert [(group.number, group.first, group.num_rows) for group in split.groups] == [(0, 0, 4), (1, 4, 2), (0, 6, 3)]
    assert split.where(7) == f"row 1 of {split.files[1]}"
    assert pickle.loads(pickle.dumps(split)) == split


@pytest.mark.parametrize("place", [".", "data"])
@pytest.mark.parametrize("prefix", ["test", "validation"])
def test_find_split_knows_the_hubs_places_and_names(tmp_path: Path, place: str, prefix: str):
    write(tmp_path / place / f"{prefix}-00000-of-00001.parquet", [0, 1])
    assert find_split(tmp_path, "test").num_rows == 2


def test_find_split_takes_the_names_of_columns(tmp_path: Path):
    write(tmp_path / "train-00000-of-00001.parquet", [3], image="img", label="fine_label")
    split = find_split(tmp_path, "train", "img", "fine_label")
    assert load_images(split, (3, 5, 6), 4)[1].tolist() == [3]


def test_find_split_is_independent_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "a" / "train-00000-of-00001.parquet", [0])
    monkeypatch.chdir(tmp_path)
    split = find_split("a", "train")
    monkeypatch.chdir("/")
    assert check_labels(split, 1).tolist() == [0]


def test_load_images_decodes_all_rows(split: ParquetSplit):
    images, targets = load_images(split, (3, 5, 6), 3)
    assert images.shape == (9, 3, 5, 6) and images.dtype == torch.uint8 and targets.dtype == torch.int64
    assert targets.tolist() == [0, 1, 2, 0, 1, 2, 2, 1, 0]
    assert images[:, :, 0, 0].tolist() == [[i, i + 1, i + 2] for i in (0, 1, 2, 3, 4, 5, 0, 1, 2)]
    assert (images == images[:, :, :1, :1]).all()


def test_decode_converts_to_grey_and_to_rgb():
    rgb = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    assert np.array_equal(decode(png(rgb), 3), rgb.transpose(2, 0, 1))
    assert np.array_equal(decode(png(rgb), 1)[0], np.asarray(Image.fromarray(rgb).convert("L")))
    assert np.array_equal(decode(png(rgb[:, :, 0]), 3), np.stack([rgb[:, :, 0]] * 3))
    with pytest.raises(DataError, match="images of 2 channels"):
        decode(png(rgb), 2)


@needs_cifar10
def test_cifar10_as_it_lies_there():
    train = find_split(CIFAR10, "train")
    assert np.bincount(check_labels(train, 10)).tolist() == [5000] * 10
    images, targets = load_images(find_split(CIFAR10, "test"), (3, 32, 32), 10)
    assert images.shape == (10_000, 3, 32, 32) and targets.bincount().tolist() == [1000] * 10
    mean = images.to(torch.float64).mean((0, 2, 3)) / 255
    assert torch.allclose(mean, torch.tensor([0.494, 0.485, 0.450], dtype=torch.float64), atol=1e-3)


def refusal(*parts: str):
    """Expects a DataError whose text has all the parts, in this order."""
    return pytest.raises(DataError, match="(?s)" + ".*".join(map(str, parts)))


def test_missing_folder(tmp_path: Path):
    with refusal("there is no folder", "nowhere", "isograd prepare"):
        find_split(tmp_path / "nowhere", "train")


def test_missing_split(tmp_path: Path):
    write(tmp_path / "train-00000-of-00001.parquet", [0])
    with refusal("no test-\\*.parquet or validation-\\*.parquet", "found: train-00000-of-00001.parquet"):
        find_split(tmp_path, "test")


def test_missing_shard(tmp_path: Path):
    write(tmp_path / "train-00000-of-00003.parquet", [0])
    write(tmp_path / "train-00002-of-00003.parquet", [0])
    with refusal("the 2 files train-00000-of-00003.parquet", "promise 3", "1 are missing: 1", "Complete the download"):
        find_split(tmp_path, "train")


def test_shards_of_two_sets(tmp_path: Path):
    write(tmp_path / "train-00000-of-00001.parquet", [0])
    write(tmp_path / "train-00000-of-00002.parquet", [0])
    write(tmp_path / "train-00001-of-00002.parquet", [0])
    with refusal("the 3 files", "promise 1 and 2", "twice", "Keep the files of one set"):
        find_split(tmp_path, "train")


def test_missing_column_names_those_that_exist(tmp_path: Path):
    write(tmp_path / "train-00000-of-00001.parquet", [0], image="img")
    with refusal("no column 'image'", "Its columns are: img, label", "Use data.image_column=img"):
        find_split(tmp_path, "train")


IMAGE: list = [{"bytes": b"x", "path": None}]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"image": ["x"], "label": [0]}, ("column 'image' of", " is string, not ", "Store images as the bytes")),
        ({"image": IMAGE, "label": [[0.5]]}, ("column 'label' of", " is list<.*>, not ", "Write the file again")),
        (
            {"image": IMAGE, "label": [0.5], "class": [1], "name": ["x"]},
            ("'label' of .* is double", r"data\.label_column=NAME with one of class, name\."),
        ),
        ({"image": [[1]], "label": [0], "my img": IMAGE}, ("'image' of", r"data\.image_column='my img'\.")),
        ({"pixels": [[1]], "label": [0]}, ("no column 'image'", "Store images as the bytes")),
    ],
)
def test_columns_that_cannot_be_read(tmp_path: Path, columns: dict[str, list], words: tuple[str, ...]):
    pq.write_table(pa.table(columns), tmp_path / "train-00000-of-00001.parquet")
    with refusal(*words):
        find_split(tmp_path, "train")


def test_a_name_that_two_columns_have_names_none(tmp_path: Path):
    table = pa.Table.from_arrays([pa.array(IMAGE), pa.array([0]), pa.array([1])], ["image", "label", "label"])
    pq.write_table(table, tmp_path / "train-00000-of-00001.parquet")
    with refusal("has 2 columns 'label'", "Write the file again"):
        find_split(tmp_path, "train")


def test_empty_split(tmp_path: Path):
    write(tmp_path / "train-00000-of-00001.parquet", [])
    with refusal("the train split in", "has 0 rows in 1 files"):
        find_split(tmp_path, "train")


def test_damaged_file(tmp_path: Path):
    path = write(tmp_path / "train-00000-of-00001.parquet", [0])
    path.write_bytes(path.read_bytes()[:-20])
    with refusal("cannot read", path.name, "It is damaged"):
        find_split(tmp_path, "train")


def test_damaged_after_it_was_found(split: ParquetSplit):
    Path(split.files[0]).unlink()
    with refusal("cannot read", split.files[0]):
        check_labels(split, 3)
    with refusal("cannot read", split.files[0]):
        split.read(split.groups[0])


def test_label_out_of_range(split: ParquetSplit):
    with refusal(
        f"row 2 of {split.files[0]} has label 2, not one of 0 to 1", "data.num_classes=2", "Use data.num_classes=3"
    ):
        check_labels(split, 2)


def test_hidden_label(tmp_path: Path):
    write(tmp_path / "test-00000-of-00001.parquet", [0, -1])
    with refusal("row 1 of", "has label -1", "Use a labelled split"):
        load_images(find_split(tmp_path, "test"), (3, 5, 6), 3)


def test_null_label(tmp_path: Path):
    write(tmp_path / "train-00000-of-00002.parquet", [0, 1, 0, 1, 0])
    write(tmp_path / "train-00001-of-00002.parquet", [0, None])
    with refusal("row 1 of", "train-00001-of-00002.parquet has no label"):
        check_labels(find_split(tmp_path, "train"), 2)


@pytest.mark.parametrize(
    "broken", [b"no image", None, png(np.zeros((5, 6, 3), np.uint8))[:45]], ids=["unknown", "null", "truncated"]
)
def test_corrupt_image(tmp_path: Path, broken: bytes | None):
    fine = png(np.zeros((5, 6, 3), np.uint8))
    write(tmp_path / "train-00000-of-00001.parquet", [0] * 6, [fine] * 5 + [broken])
    with refusal("the image in row 5 of", "train-00000-of-00001.parquet cannot be decoded", "Replace or remove"):
        load_images(find_split(tmp_path, "train"), (3, 5, 6), 1)


def test_image_of_another_size(tmp_path: Path):
    images: list[bytes | None] = [png(np.zeros((h, 6, 3), np.uint8)) for h in (5, 7)]
    write(tmp_path / "train-00000-of-00001.parquet", [0, 0], images)
    with refusal("an image is 7x6, not 5x6: row 1 of", "data.image_shape"):
        load_images(find_split(tmp_path, "train"), (3, 5, 6), 1)


def groups(*counts: int) -> list[RowGroup]:
    firsts = [sum(counts[:number]) for number in range(len(counts))]
    return [RowGroup("file", number, firsts[number], count, firsts[number]) for number, count in enumerate(counts)]


def test_windows_are_whole_row_groups():
    windows = cut_windows(groups(4, 4, 4, 9, 1), 6)
    assert [[group.number for group in window.groups] for window in windows] == [[0, 1], [2, 3], [4]]
    assert cut_windows([], 6) == []


@pytest.mark.parametrize("num_rows", range(23))
def test_skipping_keeps_the_order_of_the_rest(num_rows: int):
    windows = [Window(window.groups, seed=n) for n, window in enumerate(cut_windows(groups(4, 4, 4, 9, 1), 6))]

    def rows(windows: list[Window]) -> list[tuple[int, int]]:
        return [(window.groups[0].number, int(place)) for window in windows for place in window.order()]

    assert rows(skip_rows(windows, num_rows)) == rows(windows)[num_rows:]


def test_no_file_is_read_twice(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    table = pa.table({"image": pa.array([b"", b""], pa.binary()), "label": [0, 1]})
    pq.write_table(table, folder / "train-00000-of-00002.parquet")
    pq.write_table(table, folder / "test.parquet")
    second = folder / "train-00001-of-00002.parquet"
    second.symlink_to("train-00000-of-00002.parquet")
    with refusal("train-00001-of-00002.parquet would be read twice: it is .*train-00000-of-00002.parquet"):
        find_splits(folder, "test")
    second.unlink()
    pq.write_table(table, second)
    train, _, test = find_splits(folder, "train")  # as that is asked for
    assert train.files == test.files
    (folder / "test.parquet").unlink()
    (folder / "test.parquet").hardlink_to(second)
    with refusal("test.parquet would be read twice: it is .*train-00001-of-00002.parquet", "Put there"):
        find_splits(folder, "test")
