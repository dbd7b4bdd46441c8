"""Originals as torchvision reads them: every image with its label, and the names of the classes."""

import hashlib
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from isograd.data.stored_images import load_images
from isograd.errors import DataError
from isograd.prepare.conversion import prepare
from tests.unit.data.folders import find_split, rows, write_folder


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def pixels_of(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 3, size, size), dtype=np.uint8)


def check(output: Path, split: str, pixels: np.ndarray, labels: list[int], num_classes: int) -> None:
    """Compares what was prepared with (N, 3, H, W), in any order."""
    images, targets = load_images(find_split(output, split), pixels.shape[1:], num_classes)
    found = sorted((image.numpy().tobytes(), target) for image, target in zip(images, targets.tolist(), strict=True))
    assert found == sorted((image.tobytes(), label) for image, label in zip(pixels, labels, strict=True))


def test_cifar10_as_torchvision_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from torchvision.datasets import CIFAR10

    def store(name: str, content: dict[str, Any]) -> str:
        data = pickle.dumps(content)
        (tmp_path / "cifar-10-batches-py" / name).write_bytes(data)
        return md5(data)

    (tmp_path / "cifar-10-batches-py").mkdir()
    classes = list("abcdefghij")
    train, test = pixels_of(12, 32), pixels_of(5, 32)
    halves = [{"data": half.reshape(6, -1), "labels": list(range(6))} for half in (train[:6], train[6:])]
    sums = [store(f"data_batch_{number}", half) for number, half in enumerate(halves)]
    last = store("test_batch", {"data": test.reshape(5, -1), "labels": [9, 8, 7, 6, 5]})
    meta = store("batches.meta", {"label_names": classes})
    monkeypatch.setattr(CIFAR10, "train_list", [[f"data_batch_{number}", md5] for number, md5 in enumerate(sums)])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", last]])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": meta})
    output = prepare("cifar10", tmp_path, tmp_path / "out")
    check(output, "train", train, [*range(6), *range(6)], 10)
    check(output, "test", test, [9, 8, 7, 6, 5], 10)
    assert json.loads((output / "dataset.json").read_text())["classes"] == classes


def test_svhn_as_torchvision_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    table, digits = {}, {"train": [10, 1, 2, 10], "test": [9, 10]}
    for split, labels in digits.items():
        buffer, pixels = io.BytesIO(), pixels_of(len(labels), 32)
        savemat(buffer, {"X": pixels.transpose(2, 3, 1, 0), "y": np.array(labels, np.uint8)[:, None]})
        (tmp_path / f"{split}_32x32.mat").write_bytes(buffer.getvalue())
        table[split] = ["", f"{split}_32x32.mat", md5(buffer.getvalue())]
    monkeypatch.setattr(SVHN, "split_list", table)
    output = prepare("svhn", tmp_path, tmp_path / "out")
    check(output, "train", pixels_of(4, 32), [0, 1, 2, 0], 10)
    check(output, "test", pixels_of(2, 32), [9, 0], 10)
    assert json.loads((output / "dataset.json").read_text())["classes"] == list("0123456789")


def test_stl10_as_torchvision_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from torchvision.datasets import STL10

    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    (folder / "class_names.txt").write_text("\n".join("abcdefghij"))
    sums = []
    for split, count in (("train", 4), ("test", 3)):
        for part, array in (("X", pixels_of(count, 96).transpose(0, 1, 3, 2)), ("y", np.arange(count) + 1)):
            data = array.astype(np.uint8).tobytes()
            (folder / f"{split}_{part}.bin").write_bytes(data)
            sums.append([f"{split}_{part}.bin", md5(data)])
    monkeypatch.setattr(STL10, "train_list", sums[:2])
    monkeypatch.setattr(STL10, "test_list", sums[2:])
    output = prepare("stl10", tmp_path, tmp_path / "out")
    check(output, "train", pixels_of(4, 96), [0, 1, 2, 3], 10)
    check(output, "test", pixels_of(3, 96), [0, 1, 2], 10)


def test_imagenet_as_torchvision_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from torchvision.datasets import ImageFolder

    monkeypatch.setattr(ImageFolder, "make_dataset", lambda *_, **__: pytest.fail("the images are listed once, by us"))
    write_folder(tmp_path, "val")
    names = {"cat": ("crane",), "dog": ("crane",), "frog": ("tree frog", "tree-frog")}
    torch.save((names, ["cat"]), tmp_path / "meta.bin")
    output = prepare("imagenet", tmp_path, tmp_path / "out")
    assert len(rows(output, "validation")) == len(rows(output, "test")) == 9
    for row in rows(output, "train"):
        assert row["image"]["bytes"] == (tmp_path / "train" / row["image"]["path"]).read_bytes()
    assert json.loads((output / "dataset.json").read_text())["classes"] == [
        "crane (0)",
        "crane (1)",
        "tree frog, tree-frog",
    ]


def test_imagenet_has_each_folder_once(tmp_path: Path):
    write_folder(tmp_path, "val")
    torch.save(({"cat": ("a",), "dog": ("b",), "frog": ("c",)}, ["cat"]), tmp_path / "meta.bin")
    (tmp_path / "train" / "cat" / "all").symlink_to("..")
    with pytest.raises(DataError, match=r"cat/all leads to .*train, which is read already"):
        prepare("imagenet", tmp_path, tmp_path / "out")
