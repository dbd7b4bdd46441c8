"""Which files are a split: one complete set, wherever the hub puts it; anything else is refused by name."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from isograd.data.shards import find_shards
from isograd.errors import DataError

A, B = "0123456789abcdef", "fedcba9876543210"
JOB = "01234567-89ab-cdef-0123-456789abcdef"


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
        ("train-00000-of-00002.snappy.parquet", "train-00001-of-00002.snappy.parquet"),
        ("train-1of2.parquet", "train-2of2.parquet"),
        ("train_0_of_2.parquet", "train_1_of_2.parquet"),
        ("train-0.zstd.parquet", "train-1.zstd.parquet"),
        (f"train/part-00000-{JOB}-c000.snappy.parquet", f"train/part-00001-{JOB}-c000.snappy.parquet"),
        ("train/0.parquet",),
        ("train-0.parquet",),
        ("train-v2.parquet",),
        ("train/cifar10.parquet",),
    ],
)
def test_complete_sets(tmp_path: Path, names: tuple[str, ...]) -> None:
    others = ("._train-00000-of-00001.parquet", ".hidden/train.parquet", "training.parquet", "train.md", "train/.a/b")
    touch(tmp_path, *names, *others, *(f"{names[0]}{suffix}" for suffix in (".md5", ".crc", ".bak", "~")))
    files = find_shards(tmp_path, "train").files
    assert [file.relative_to(tmp_path).as_posix() for file in files] == sorted(names)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ((f"train-00000-of-00001-{A}.parquet", f"train-00000-of-00001-{B}.parquet"), "number 0 is there 2 times"),
        ((f"train-00000-of-00002-{A}.parquet",), "promise 2 shards, numbered from 0; 1 are missing: 1"),
        (("train-00001-of-00003.parquet", "train-00002-of-00003.parquet"), "1 are missing: 0"),
        (("train-00000-of-00001.parquet", "train-00001-of-00001.parquet"), "promise 1 shards"),
        (("train-00000-of-00001.parquet", "train-00000-of-00002.parquet"), "they promise 1 and 2"),
        (("train-00000-of-00002.parquet", f"train-00001-of-00002-{A}.parquet"), "end with a hash and the number"),
        (("train-00000-of-00001.parquet", "train.parquet"), r"1 are not \(train.parquet\)"),
        (
            ("train-00000-of-00001.parquet", "train-00000-of-00001 (1).parquet"),
            r"end with ' \(1\)' and the number",
        ),
        (("train-00000-of-00001.parquet", "train-extra-00000-of-00001.parquet"), "begin with train and train-extra"),
        (("train-0.parquet", "train-2.parquet"), "numbers 0, 2 do not run from 0 or 1"),
        (("train/0001.parquet", "train/0002.parquet", "train/0004.parquet"), "numbers 1, 2, 4 do not run"),
        (("train/0003.parquet",), "number 3, and there is no other"),
        (("train/part1.parquet",), "number 1, and there is no other"),
        ((f"train/part-00001-{JOB}-c000.snappy.parquet",), "number 1, and there is no other"),
        *(
            ((f"train{end}.parquet",), "number [15], and there is no other")
            for end in ("-5", "5", "-00001", " 1", "(1")
        ),
        *(
            ((f"train{end}.parquet",), "promise 2 shards, numbered from 0; 1 are missing: 1")
            for end in (
                *("-00000-of-00002.snappy", "-00000-of-00002 copy", "-00000-of-00002(1)", "-00000-of-00002-ABCDEF12"),
                *("-00000-of-00002-xyz123", "-00000-of-00002-v2", "_0_of_2", "-0of2", ".0.of.2", "_00000_of_00002"),
            )
        ),
        (("train-a.parquet", "train-b.parquet"), "do not say that they belong together"),
    ],
)
def test_anything_else_is_refused_by_name(tmp_path: Path, names: tuple[str, ...], reason: str) -> None:
    with pytest.raises(DataError, match=f"not one complete set: .*{reason}") as caught:
        find_shards(touch(tmp_path, *names), "train")
    assert Path(names[0]).name in caught.value.what


@pytest.mark.parametrize(
    ("whole", "part", "reason"),
    [
        ("train-0.parquet", "train-1.PARQUET", r"called \.PARQUET, not \.parquet"),
        ("train-0.parquet", "Train-1.parquet", "called Train, not train"),
        ("train-0.parquet", "train-1.parquet/", "a folder"),
        ("train-0.parquet", "train-1.parquet@", "a link to gone, where nothing is"),
        ("train-0.parquet", "train-1.parquet|", "neither a file nor a folder"),
        ("train-0.parquet", "train-1.parquet.crdownload", r"called \.crdownload, not"),
        ("train-0.parquet", "train-1.parquet.md5", r"called \.md5, not"),
        ("train/0000.parquet", "train/0001.PARQUET", r"called \.PARQUET"),
        ("train/0000.parquet", "train/0001.parquet.part", r"called \.part"),
        ("train/0000.parquet", "train/more/0001.parquet", r"in a folder below \S*/train\."),
        ("train/0001.parquet", "train/0000/0000.parquet", r"in a folder below \S*/train\."),
        ("data/train-0.parquet", "data/train-1.parquet.tmp", r"called \.tmp"),
        ("small/train-0.parquet", "small/train-1.parquet.tmp", r"called \.tmp"),
    ],
)
def test_no_part_is_passed_over(tmp_path: Path, whole: str, part: str, reason: str) -> None:
    path = touch(tmp_path, whole) / part.rstrip("/@|")
    path.parent.mkdir(exist_ok=True)
    match part[-1]:
        case "/":
            path.mkdir()
        case "@":
            path.symlink_to("gone")
        case "|":
            os.mkfifo(path)
        case _:
            path.touch()
    with pytest.raises(DataError, match=rf"{path.name} is named as a part of the train split, but is {reason}"):
        find_shards(tmp_path, "train")


@pytest.mark.parametrize(
    ("first", "second", "mend"),
    [
        ("train.parquet", "train/0000.parquet", "into another folder."),
        ("train.parquet", "data/train.parquet", "use data.path={}/data."),
        ("small/train.parquet", "small/train/0.parquet", "into another folder."),
    ],
)
def test_a_split_lies_in_one_place(tmp_path: Path, first: str, second: str, mend: str) -> None:
    with pytest.raises(DataError, match=r"the train split is there 2 times: train\.parquet in") as caught:
        find_shards(touch(tmp_path, first, second), "train")
    assert caught.value.mend.endswith(mend.format(tmp_path))


@pytest.mark.parametrize("closed", ["train/more", "train", "data", "."])
def test_a_folder_that_may_not_be_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    touch(tmp_path, "train/0000.parquet", "train/more/0001.parquet", "data/a")
    listed = Path.iterdir

    def iterdir(folder: Path) -> Iterator[Path]:
        if folder == tmp_path / closed:
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\).*Let this user read it"):
        find_shards(tmp_path, "train")


def test_a_link_to_the_folder_itself_is_no_other_place(tmp_path: Path) -> None:
    touch(tmp_path, "train.parquet")
    (tmp_path / "data").symlink_to(".")
    assert find_shards(tmp_path, "train").files == (tmp_path / "train.parquet",)


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
        (("train/cat/1.png", "test/cat/1.png"), "train", "Run `isograd prepare image_folder --root {} "),
        (("cat/1.png",), "", "Name the files so; of image files make them by `isograd prepare image_folder "),
        (("train/label=0/a.parquet", "test/label=0/a.parquet"), "", "Put the files of each split into one folder"),
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


def test_a_training_split_alone(tmp_path: Path) -> None:
    touch(tmp_path, "train.parquet")
    with pytest.raises(DataError, match=r"Put a part of the training split into a file of its own, test\.parquet"):
        find_shards(tmp_path, "test")
    touch(tmp_path, "test.parquet")
    with pytest.raises(DataError, match=r"Use data\.test_split=test, or call it TEST"):
        find_shards(tmp_path, "TEST")


@pytest.mark.parametrize("place", ["", "data/", "default/"])
def test_a_split_is_one_of_the_names_that_it_may_have(tmp_path: Path, place: str) -> None:
    touch(tmp_path, *(f"{place}{name}.parquet" for name in ("train", "validation", "val")))
    with pytest.raises(
        DataError, match=r"has no split test, but 2 that may be meant: validation, val\..*data\.test_split=validation"
    ):
        find_shards(tmp_path, "test")
    assert find_shards(tmp_path, "val").files[0].name == "val.parquet"
    touch(tmp_path, f"{place}test.parquet")
    assert find_shards(tmp_path, "test").files[0].name == "test.parquet"


def test_a_split_has_a_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.test_split is empty.*Use data\.test_split=test"):
        find_shards(touch(tmp_path, "train.parquet", "test.parquet"), "")
