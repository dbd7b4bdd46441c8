"""Preparation: what is written, that it survives interruption, and what it refuses."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from isograd.data.stored_images import load_images
from isograd.errors import ConfigError, RunFolderError, UnknownNameError
from isograd.prepare import conversion as preparation
from isograd.prepare.conversion import STAMP, prepare
from isograd.prepare.originals import SOURCES, ArrayImages, PreparedSource
from isograd.system.lock import held
from tests.unit.data.folders import CLASSES, contents, find_split, refusal, rows, write_folder

NUM_TRAIN, NUM_TEST = 57, 20


@pytest.fixture(autouse=True)
def small_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "ROWS_PER_GROUP", 8)


@pytest.fixture
def arrays() -> Iterator[dict[str, Any]]:
    """A source of name ``arrays`` with objects like torchvision's CIFAR-10."""
    generator = np.random.default_rng(0)
    splits = {
        split: SimpleNamespace(
            data=generator.integers(0, 256, (count, 6, 5, 3), dtype=np.uint8),
            targets=generator.integers(0, 3, count).tolist(),
            classes=CLASSES,
        )
        for split, count in (("train", NUM_TRAIN), ("test", NUM_TEST))
    }
    SOURCES.add("arrays", PreparedSource(lambda root, split, download: splits[split]))
    yield splits
    SOURCES._entries.pop("arrays")


def test_arrays_lose_nothing(arrays: dict[str, Any], tmp_path: Path):
    output = prepare("arrays", tmp_path, tmp_path / "out", rows_per_shard=20)
    assert sorted(path.name for path in output.iterdir()) == [
        STAMP,
        "dataset.json",
        "test-00000-of-00001.parquet",
        *(f"train-0000{number}-of-00003.parquet" for number in range(3)),
    ]
    for split, count in (("train", NUM_TRAIN), ("test", NUM_TEST)):
        images, targets = load_images(find_split(output, split), (3, 6, 5), 3)
        original = torch.from_numpy(arrays[split].data).permute(0, 3, 1, 2)
        order = [next(row for row in range(count) if torch.equal(original[row], image)) for image in images]
        assert sorted(order) == list(range(count)) and order != list(range(count))
        assert targets.tolist() == [arrays[split].targets[row] for row in order]
    assert find_split(output, "train").row_groups == ((8, 8, 3),) * 3


def test_summary(arrays: dict[str, Any], tmp_path: Path):
    summary = json.loads(
        (prepare("arrays", tmp_path, tmp_path / "out", rows_per_shard=20) / "dataset.json").read_text()
    )
    assert (summary["name"], summary["classes"], summary["num_classes"]) == ("arrays", CLASSES, 3)
    assert summary["num_rows"] == {"train": NUM_TRAIN, "test": NUM_TEST} and summary["image_shape"] == [3, 6, 5]
    pixels = arrays["train"].data / 255
    assert np.allclose(summary["mean"], pixels.mean((0, 1, 2)), atol=1e-12)
    assert np.allclose(summary["std"], pixels.std((0, 1, 2)), atol=1e-12)


def test_grey_images(arrays: dict[str, Any], tmp_path: Path):
    for split in arrays.values():
        split.data = split.data[..., 0]
    summary = json.loads((prepare("arrays", tmp_path, tmp_path / "out") / "dataset.json").read_text())
    assert summary["image_shape"] == [1, 6, 5]
    assert np.allclose(summary["mean"], [(arrays["train"].data / 255).mean()])
    assert len(summary["std"]) == 1


def test_the_hub_learns_the_names_of_the_classes(arrays: dict[str, Any], tmp_path: Path):
    output = prepare("arrays", tmp_path, tmp_path / "out")
    metadata = pq.read_schema(output / "train-00000-of-00001.parquet").metadata
    features = json.loads(metadata[b"huggingface"])["info"]["features"]
    assert features == {"image": {"_type": "Image"}, "label": {"names": CLASSES, "_type": "ClassLabel"}}


@pytest.mark.parametrize("test", ["test", "val"])
def test_image_folder_keeps_the_bytes_of_files(tmp_path: Path, test: str):
    root = write_folder(tmp_path / "in", test)
    output = prepare("image_folder", root, tmp_path / "out")
    for split, folder, count in (("train", "train", 27), ("test", test, 9)):
        found = rows(output, split)
        paths = [row["image"]["path"] for row in found]
        assert len(set(paths)) == count and paths != sorted(paths)
        for row in found:
            assert row["image"]["bytes"] == (root / folder / row["image"]["path"]).read_bytes()
            assert CLASSES[row["label"]] == row["image"]["path"].split("/")[0]
    assert json.loads((output / "dataset.json").read_text())["image_shape"] is None


@pytest.mark.parametrize(("split", "row"), [("train", 20), ("test", 8)])
def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, split: str, row: int):
    root = write_folder(tmp_path / "in")
    expected = contents(prepare("image_folder", root, tmp_path / "expected", rows_per_shard=7))
    path = rows(tmp_path / "expected", split)[row]["image"]["path"]
    bad = root / split / path
    intact = bad.read_bytes()
    bad.write_bytes(intact[: len(intact) // 2])
    with refusal(f"image {path} of the {split} split of image_folder cannot be decoded", "complete shards are kept"):
        prepare("image_folder", root, tmp_path / "out", rows_per_shard=7)
    assert not (tmp_path / "out" / "dataset.json").exists()
    bad.write_bytes(intact)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.parquet")}
    assert contents(prepare("image_folder", root, tmp_path / "out", rows_per_shard=7)) == expected
    assert kept and all(path.stat().st_mtime_ns == time for path, time in kept.items())


def test_a_killed_run_goes_on(arrays: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    expected = contents(prepare("arrays", tmp_path, tmp_path / "expected", rows_per_shard=10))
    encode, calls = ArrayImages.encoded, 0

    def encoded(self: ArrayImages, row: int) -> tuple[bytes, str | None]:
        nonlocal calls
        calls += 1
        if calls == 35:
            raise KeyboardInterrupt
        return encode(self, row)

    with monkeypatch.context() as patch:
        patch.setattr(ArrayImages, "encoded", encoded)
        with pytest.raises(KeyboardInterrupt):
            prepare("arrays", tmp_path, tmp_path / "out", rows_per_shard=10)
    left = set(contents(tmp_path / "out"))
    assert 0 < len(left & set(expected)) < len(expected) - 1
    assert contents(prepare("arrays", tmp_path, tmp_path / "out", rows_per_shard=10)) == expected


def test_a_complete_output_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root, output = write_folder(tmp_path / "in"), tmp_path / "out"
    prepare("image_folder", root, output)
    times = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    capsys.readouterr()
    assert prepare("image_folder", root, output) == output
    assert "already holds image_folder, complete" in capsys.readouterr().err.replace("\n", "")
    shutil.rmtree(root)
    assert prepare("image_folder", root, output) == output
    assert "its original is gone" in capsys.readouterr().err.replace("\n", "")
    assert times == {path: path.stat().st_mtime_ns for path in output.iterdir()}


@pytest.mark.parametrize("finished", [True, False])
def test_an_original_that_has_changed_is_not_mixed(tmp_path: Path, finished: bool):
    root, output = write_folder(tmp_path / "in"), tmp_path / "out"
    before = contents(prepare("image_folder", root, output, rows_per_shard=10))
    if not finished:
        (output / "dataset.json").unlink()
        (output / "test-00000-of-00001.parquet").unlink()
    Image.new("RGB", (8, 8)).save(root / "train" / "dog" / "3.jpg")
    with refusal("image dog/3.jpg of the train split of image_folder is another one in .*of-00003", "empty this one"):
        prepare("image_folder", root, output, rows_per_shard=10)
    assert contents(output).items() <= before.items()


def test_a_damaged_shard_is_said(tmp_path: Path):
    root, output = write_folder(tmp_path / "in"), tmp_path / "out"
    shard = prepare("image_folder", root, output) / "train-00000-of-00001.parquet"
    (output / STAMP).unlink()
    data = bytearray(shard.read_bytes())
    data[4:200] = bytes(196)  # the first page of the first column
    shard.write_bytes(data)
    with refusal("cannot read .*train-00000-of-00001", "prepare it again"):
        prepare("image_folder", root, output)


def test_a_copy_of_the_original_is_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root, output = write_folder(tmp_path / "in"), tmp_path / "out"
    before = contents(prepare("image_folder", root, output))
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
    for compared in (True, False):
        capsys.readouterr()
        assert contents(prepare("image_folder", tmp_path / "copy", output)) == before
        said = capsys.readouterr().err.replace("\n", "")
        assert "already holds image_folder, complete" in said and ("comparing 2 shards" in said) is compared


def test_a_missing_shard_of_a_complete_output_is_written_again(arrays: dict[str, Any], tmp_path: Path):
    output = prepare("arrays", tmp_path, tmp_path / "out", rows_per_shard=20)
    expected = contents(output)
    (output / "train-00001-of-00003.parquet").unlink()
    assert contents(prepare("arrays", tmp_path, output, rows_per_shard=20)) == expected


def test_unknown_name(tmp_path: Path):
    with pytest.raises(UnknownNameError, match=r"unknown source 'cifr10'\. Did you mean 'cifar10'\?"):
        prepare("cifr10", tmp_path, tmp_path / "out")


def test_rows_per_shard(tmp_path: Path):
    with pytest.raises(ConfigError, match="rows_per_shard=0"):
        prepare("cifar10", tmp_path, tmp_path / "out", rows_per_shard=0)


@pytest.mark.parametrize(("name", "mend"), [("cifar10", "Use --download"), ("imagenet", "Fetch the original")])
def test_missing_original(tmp_path: Path, name: str, mend: str):
    with refusal("there is no folder", "nowhere", mend):
        prepare(name, tmp_path / "nowhere", tmp_path / "out")
    with refusal(f"cannot open the train split of {name}", mend):
        prepare(name, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_downloaded(tmp_path: Path):
    with refusal("imagenet cannot be downloaded", "Fetch the original"):
        prepare("imagenet", tmp_path, tmp_path / "out", download=True)


def test_a_damaged_shard_is_no_other_data_set(tmp_path: Path):
    root, output = write_folder(tmp_path / "in"), tmp_path / "out"
    before = contents(prepare("image_folder", root, output))
    shard = output / "train-00000-of-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:100])
    with refusal("train-00000-of-00001.parquet is damaged", "Remove it, and call prepare again"):
        prepare("image_folder", root, output)
    shard.unlink()
    assert contents(prepare("image_folder", root, output)) == before


def test_what_is_refused_leaves_no_part(tmp_path: Path):
    root = write_folder(tmp_path / "in")
    (root / "train" / "cat" / "0.jpg").write_bytes(b"no image")
    with refusal("cat/0.jpg .* cannot be decoded"):
        prepare("image_folder", root, tmp_path / "out")
    assert not [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".train")]


def test_two_processes_do_not_write_one_output(tmp_path: Path):
    root, output = write_folder(tmp_path / "in"), tmp_path / "out"
    with held(output), pytest.raises(RunFolderError, match="by another process now"):
        prepare("image_folder", root, output)
    before = contents(prepare("image_folder", root, output))
    with held(output):  # who only looks is not kept out
        assert contents(prepare("image_folder", root, output)) == before


def test_a_single_class_cannot_be_prepared(tmp_path: Path):
    root = write_folder(tmp_path / "in")
    for split in ("train", "test"):
        for name in ("dog", "frog"):
            shutil.rmtree(root / split / name)
    with refusal("all 9 images of the train split of image_folder have one class, 'cat'"):
        prepare("image_folder", root, tmp_path / "out")


def test_prepare_turns_scales_and_refuses_as_runs_do(tmp_path: Path):
    root = write_folder(tmp_path / "in")
    for path in root.rglob("*.*"):
        path.unlink()
        Image.fromarray(np.full((8, 6), 32896, np.uint16)).save(path.with_suffix(".png"), exif=b"")
    summary = json.loads((prepare("image_folder", root, tmp_path / "out") / "dataset.json").read_text())
    assert summary["image_shape"] == [1, 8, 6] and summary["mean"] == [128 / 255]
    Image.fromarray(np.full((8, 6), 0.5, np.float32)).save(root / "train" / "cat" / "real.tiff")
    with refusal("image cat/real.tiff of the train split .* cannot be used: .* mode F", "Nothing says"):
        prepare("image_folder", root, tmp_path / "other")


def test_the_help_of_prepare_names_what_exists(capsys: pytest.CaptureFixture[str]):
    from isograd.cli.main import main

    with pytest.raises(SystemExit):
        main(["prepare", "--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in SOURCES)


@pytest.mark.parametrize(("label", "number"), [(3, "3"), (-1, "-1")])
def test_label_out_of_range(arrays: dict[str, Any], tmp_path: Path, label: int, number: str):
    arrays["test"].targets[4] = label
    with refusal("the test split of arrays", f"image 4 has label {number}", "0 to 2"):
        prepare("arrays", tmp_path, tmp_path / "out")


def test_no_images(arrays: dict[str, Any], tmp_path: Path):
    arrays["train"].data, arrays["train"].targets = arrays["train"].data[:0], []
    with refusal("the train split of arrays", "0 images"):
        prepare("arrays", tmp_path, tmp_path / "out")


def test_output_that_cannot_be_written(arrays: dict[str, Any], tmp_path: Path):
    (tmp_path / "file").write_text("")
    with refusal("cannot write to .*file", "Use another output folder"):
        prepare("arrays", tmp_path, tmp_path / "file" / "out")


def test_output_that_holds_something_else(arrays: dict[str, Any], tmp_path: Path):
    root, output = write_folder(tmp_path / "in"), tmp_path / "out"
    before = contents(prepare("image_folder", root, output))
    with refusal("test-00000-of-00001.parquet is not a shard of arrays", "another data set", "Use another output"):
        prepare("arrays", root, output)
    with refusal("is not a shard of image_folder as its original is now", "cut otherwise"):
        prepare("image_folder", root, output, rows_per_shard=5)
    Image.new("RGB", (8, 8)).save(root / "train" / "cat" / "new.png")
    with refusal("is not a shard of image_folder"):
        prepare("image_folder", root, output)
    assert contents(output) == before
