"""A user's own folder of images: which files are taken, and what is refused."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isograd.errors import DataError
from isograd.prepare.conversion import prepare
from isograd.prepare.image_folder import FileImages
from tests.unit.data.folders import CLASSES, contents, refusal, rows, write_folder


def test_image_folder_without_test(tmp_path: Path):
    shutil.rmtree(write_folder(tmp_path / "in") / "test")
    with refusal("there is no folder test or val or validation", "found: train"):
        prepare("image_folder", tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("names", [("val", "valid"), ("val", "validation", "valid")])
def test_only_one_folder_may_stand_for_the_one_to_test_on(tmp_path: Path, names: tuple[str, ...]):
    root = write_folder(tmp_path / "in", names[0])
    for name in names[1:]:
        shutil.copytree(root / names[0], root / name)
    others = " and ".join(f".*/{name}" for name in names[1:])
    with refusal(f"{len(names)} folders to test on: {', '.join(names)}", f"To test on {names[0]}, rename {others}"):
        prepare("image_folder", root, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for name in names[1:]:
        (root / name).rename(root / f"unused_{name}")
    prepare("image_folder", root, tmp_path / "out")


def test_what_is_not_read_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    root = write_folder(tmp_path / "in")
    expected = contents(prepare("image_folder", root, tmp_path / "alone"))
    shutil.copytree(root / "test" / "cat", root / "val" / "eel")
    (root / "closed").mkdir()
    given = Path.is_dir

    def is_dir(path: Path) -> bool:
        if path.name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return given(path)

    monkeypatch.setattr(Path, "is_dir", is_dir)
    assert contents(prepare("image_folder", root, tmp_path / "out")) == expected
    assert f"not read: the folders closed, val in {root}\n" in capsys.readouterr().err


def test_a_folder_without_classes_is_no_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = write_folder(tmp_path / "in", "val")
    expected = contents(prepare("image_folder", root, tmp_path / "out"))
    assert "not read" not in capsys.readouterr().err
    (root / "test").mkdir()
    shutil.copy(root / "val" / "cat" / "0.jpg", root / "test" / "unlabelled.jpg")
    (root / "valid").symlink_to("val")
    (root / ".git").mkdir()
    assert contents(prepare("image_folder", root, root / "out")) == expected
    assert f"not read: the folders test in {root}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("moved", "root", "mend"),
    [
        ("Train", ".", "Rename .*/Train to train"),
        ("training", ".", "Rename .*/training to train"),
        ("in/train", ".", "Use --root .*/in"),
        ("train", "train", "Use --root .*original"),
        ("pictures", ".", "Arrange the images so: .*/train/CLASS/IMAGE.png"),
    ],
)
def test_image_folder_laid_out_otherwise(tmp_path: Path, moved: str, root: str, mend: str):
    there = tmp_path / "original" / moved
    there.parent.mkdir(parents=True)
    (write_folder(tmp_path / "in") / "train").rename(there)
    with refusal("there is no folder train", mend):
        prepare("image_folder", tmp_path / "original" / root, tmp_path / "out")


def test_image_folder_is_the_users_own(tmp_path: Path):
    for root, download in ((tmp_path / "nowhere", False), (tmp_path, True)):
        with refusal("Set --root to the folder that has train and test"):
            prepare("image_folder", root, tmp_path / "out", download=download)


def test_files_that_pillow_only_recognises_are_no_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = write_folder(tmp_path / "in")
    (root / "train" / "cat" / "film.mpg").write_bytes(b"\x00\x00\x01\xb3" + bytes(20))
    (root / "train" / "cat" / "features.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(20))
    prepare("image_folder", root, tmp_path / "out")
    assert "left out of train: 2 files that are no images (cat/features.h5, cat/film.mpg)" in capsys.readouterr().err


def test_a_class_whose_name_is_no_utf8(tmp_path: Path):
    root = write_folder(tmp_path / "in")
    (root / "train" / "cat").rename(root / "train" / os.fsdecode(b"c\xe9"))
    with refusal("holds bytes that are no UTF-8", "Rename it"):
        prepare("image_folder", root, tmp_path / "out")


def test_image_folder_whose_splits_differ(tmp_path: Path):
    shutil.rmtree(write_folder(tmp_path / "in") / "test" / "dog")
    with refusal("differ in 1 classes: dog", "one number would mean two classes"):
        prepare("image_folder", tmp_path / "in", tmp_path / "out")


def test_image_folder_leaves_nothing_out_unseen(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = write_folder(tmp_path / "in")
    for name in (".DS_Store", "cat/.DS_Store", "cat/._0.jpg", "cat/Thumbs.db", "__MACOSX/._cat"):
        (root / "train" / name).parent.mkdir(exist_ok=True)
        (root / "train" / name).write_bytes(b"\0")
    (root / "train" / ".git").mkdir()
    (root / "train" / "dog" / "notes.txt").write_text("mine")
    Image.new("L", (8, 8)).save(root / "train" / "frog" / "more.GIF", "GIF")
    Image.new("L", (8, 8)).save(root / "train" / "frog" / "nosuffix", "PNG")
    output = prepare("imagefolder", root, tmp_path / "out")
    assert "left out of train: 1 files that are no images (dog/notes.txt)" in capsys.readouterr().err
    paths = {row["image"]["path"] for row in rows(output, "train")}
    assert len(paths) == 29 and {"frog/more.GIF", "frog/nosuffix"} < paths
    assert json.loads((output / "dataset.json").read_text())["classes"] == CLASSES


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cat/photo.heic", "an image of a format that cannot be opened here"),
        ("cat/drawing.svg", "an image of a format that cannot be opened here"),
        ("cat/drawing.eps", "an image of a format that cannot be opened here .*Convert such files to PNG"),
        ("cat/drawing.PS", "an image of a format that cannot be opened here"),
        ("cat/drawing.wmf", "an image of a format that cannot be opened here"),
        ("eel/notes.txt", "the class folder .*eel has no image"),
        ("0.png", "1 images lie in .* in no class folder: 0.png"),
    ],
)
def test_image_folder_refuses(tmp_path: Path, name: str, words: str):
    root = write_folder(tmp_path / "in")
    (root / "train" / name).parent.mkdir(exist_ok=True)
    (root / "train" / name).write_bytes(b"\0")
    with refusal(words):
        prepare("image_folder", root, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "target", "words"),
    [
        ("train/cat/self", ".", "cat/self leads to .*train/cat, which is read already"),
        ("train/cat/up", "..", "cat/up leads to .*train, which is read already"),
        ("train/frog/all", "../..", "frog/all/train leads to .*train, which is read already"),
        ("train/gnu", "dog", "gnu leads to .*train/dog, which is read already"),
        ("train/cat/more", "gone", "cat/more is a link to gone, where nothing is"),
        ("train/cat/me", "me", "cat/me is a link to me, where nothing is"),
        ("train/gnu", "gone", "gnu is a link to gone, where nothing is"),
        ("test/cat/7.png", "gone.png", "7.png is a link to gone.png, where nothing is"),
        ("train/cat/pipe", None, "cat/pipe is neither a folder nor a file"),
        ("train/cat/pipe.png", None, "cat/pipe.png is neither a folder nor a file"),
        ("train/pipe", None, "train/pipe is neither a folder nor a file"),
    ],
)
def test_image_folder_follows_links_to_new_images_only(tmp_path: Path, name: str, target: str | None, words: str):
    path = write_folder(tmp_path / "in") / name
    if target is None:
        os.mkfifo(path)
    else:
        path.symlink_to(target)
    with refusal(words):
        prepare("image_folder", tmp_path / "in", tmp_path / "out")


def test_image_folder_may_be_of_links(tmp_path: Path):
    expected = contents(prepare("image_folder", write_folder(tmp_path / "in"), tmp_path / "out"))
    for split in ("train", "test"):
        (tmp_path / "links" / split).mkdir(parents=True)
        for name in CLASSES:
            (tmp_path / "links" / split / name).symlink_to(tmp_path / "in" / split / name)
    assert contents(prepare("image_folder", tmp_path / "links", tmp_path / "other")) == expected


@pytest.mark.parametrize(("place", "target"), [("test", "train"), ("test/cat", "../train/cat")])
def test_what_is_tested_on_is_not_trained_on(tmp_path: Path, place: str, target: str):
    root = write_folder(tmp_path / "in")
    shutil.rmtree(root / place)
    (root / place).symlink_to(target)
    with refusal("the splits train and test of image_folder share [13] folders: .*train/cat", "trained on"):
        prepare("image_folder", root, tmp_path / "out")


@pytest.mark.parametrize("output", ["train", "train/out", "test/cat"])
def test_the_output_does_not_lie_among_the_images(tmp_path: Path, output: str):
    root = write_folder(tmp_path / "in")
    with refusal(f"the output folder .*{output} lies in .*, among the images", "Use another output folder"):
        prepare("image_folder", root, root / output)
    assert not [*root.rglob("*.parquet")] and not (root / "train" / "out").exists()


def test_one_name_of_a_class_is_one_folder(tmp_path: Path):
    root = write_folder(tmp_path / "in")
    for name in ("\u00e9", "e\u0301"):
        shutil.copytree(root / "train" / "cat", root / "train" / name)
    with refusal(r"two class folders of .*train are called \u00e9: 'e\\u0301' and '\\xe9'", "they are one class"):
        prepare("image_folder", root, tmp_path / "out")


def test_an_image_is_a_file(tmp_path: Path):
    os.mkfifo(tmp_path / "0.png")
    with pytest.raises(DataError, match=r"0\.png is no file"):
        FileImages(tmp_path, ["0.png"], np.array([0]), ["a"]).encoded(0)
