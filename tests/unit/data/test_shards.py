"""Which files are a split: one complete set, wherever the hub puts it; anything else is refused by name."""

from pathlib import Path

import pytest

from isograd.data.shards import find_shards
from isograd.errors import DataError

A, B = "0123456789abcdef", "fedcba9876543210"


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00001.parquet",),
        (f"train-00000-of-00002-{A}.parquet", f"train-00001-of-00002-{B}.parquet"),
        ("data/train-00000-of-00001.parquet",),
        ("plain_text/train-00000-of-00001.parquet",),
        ("default/train/0000.parquet", "default/train/0001.parquet"),
        ("train/0000.parquet",),
        ("train.parquet",),
        ("train-0.parquet", "train-1.parquet"),
        ("train_01.parquet", "train_02.parquet"),
    ],
)
def test_complete_sets(tmp_path: Path, names: tuple[str, ...]) -> None:
    touch(tmp_path, *names, "._train-00000-of-00001.parquet", ".hidden/train.parquet", "training.parquet")
    files = find_shards(tmp_path, "train").files
    assert [file.relative_to(tmp_path).as_posix() for file in files] == sorted(names)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ((f"train-00000-of-00001-{A}.parquet", f"train-00000-of-00001-{B}.parquet"), "number 0 is there 2 times"),
        ((f"train-00000-of-00002-{A}.parquet",), "promise 2 shards, numbered from 0; 1 are missing: 1"),
        (("train-00001-of-00002.parquet", "train-00002-of-00002.parquet"), "1 are missing: 0"),
        (("train-00000-of-00001.parquet", "train-00001-of-00001.parquet"), "promise 1 shards"),
        (("train-00000-of-00001.parquet", "train-00000-of-00002.parquet"), "they promise 1 and 2"),
        (("train-00000-of-00002.parquet", f"train-00001-of-00002-{A}.parquet"), "with a hash and without one"),
        (("train-00000-of-00001.parquet", "train.parquet"), r"1 are not \(train.parquet\)"),
        (
            ("train-00000-of-00001.parquet", "train-00000-of-00001 (1).parquet"),
            r"1 are not \(train-00000-of-00001 \(1\)",
        ),
        (("train-00000-of-00001.parquet", "train-extra-00000-of-00001.parquet"), "begin with train and train-extra"),
        (("train-0.parquet", "train-2.parquet"), "numbers 0, 2 do not run from 0 or 1"),
        (("train/0001.parquet", "train/0002.parquet", "train/0004.parquet"), "numbers 1, 2, 4 do not run"),
        (("train/0003.parquet",), "numbers 3 do not run"),
        (("train-a.parquet", "train-b.parquet"), "do not say that they belong together"),
    ],
)
def test_anything_else_is_refused_by_name(tmp_path: Path, names: tuple[str, ...], reason: str) -> None:
    with pytest.raises(DataError, match=f"not one complete set: .*{reason}") as caught:
        find_shards(touch(tmp_path, *names), "train")
    assert Path(names[0]).name in caught.value.what


@pytest.mark.parametrize("name", ["test", "validation", "valid", "val"])
def test_names_of_the_split_to_test_on(tmp_path: Path, name: str) -> None:
    touch(tmp_path, f"{name}-00000-of-00001.parquet")
    assert find_shards(tmp_path, "test").files[0].name.startswith(name)


def test_two_configurations_are_not_mixed(tmp_path: Path) -> None:
    touch(tmp_path, "full/train-00000-of-00001.parquet", "small/train-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"2 folders of .* have a split train: full, small.*data\.path=.*/full"):
        find_shards(tmp_path, "train")


@pytest.mark.parametrize(
    ("names", "path", "mend"),
    [
        (
            ("refs/convert/parquet/plain_text/train/0000.parquet",),
            "",
            "Use data.path={}/refs/convert/parquet/plain_text",
        ),
        (("plain_text/train/0000.parquet",), "plain_text/train", "Use data.path={}/plain_text"),
        (("train/cat/1.png", "test/cat/1.png"), "", "Run `isograd prepare image_folder --root {} "),
        (("a.parquet",), "a.parquet", "Use data.path={}."),
    ],
)
def test_the_mend_names_what_works(tmp_path: Path, names: tuple[str, ...], path: str, mend: str) -> None:
    with pytest.raises(DataError) as caught:
        find_shards(touch(tmp_path, *names) / path, "train")
    assert caught.value.mend.startswith(mend.format(tmp_path))


def test_without_a_split_to_test_on(tmp_path: Path) -> None:
    touch(tmp_path, "train-00000-of-00001.parquet", "holdout-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"Use data\.test_split=holdout"):
        find_shards(tmp_path, "test")
