"""What is validated on: the data's own split, or rows that are held out of the training split."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from isograd.data.batch import Source
from isograd.data.dataset import DATASETS, Dataset, dataset_of
from isograd.data.rows import hold_out
from isograd.errors import ConfigError, DataError
from isograd.seeding import derive
from tests.unit.data.sources import same, whole
from tests.unit.data.test_labels import write

CLASSES = [0] * 30 + [1] * 20 + [2] * 10


def images(folder: Path, **changes: Any) -> Dataset[Any]:
    shape = {"image_shape": [1, 4, 4], "mean": [0.5], "std": [0.5], "num_classes": 3, "batch_size": 7}
    return dataset_of(replace(DATASETS.get("parquet").config, path=str(folder), **{**shape, **changes}))


def sizes(source: Source) -> tuple[int, int, int]:
    return source.num_train, source.num_valid, source.num_test


def rows(batches: Any) -> list[int]:
    """The stored rows, which are the values of the pixels of :func:`write`."""
    return torch.cat([batch.inputs["image"][:, 0, 0, 0] for batch in batches]).tolist()


def labels(batches: Any) -> list[int]:
    return torch.cat([batch.targets["label"] for batch in batches]).tolist()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    order = np.random.default_rng(0).permutation(len(CLASSES))
    write(tmp_path, "train", [CLASSES[row] for row in order])
    return write(tmp_path, "test", [0, 1, 2])


def test_held_out_rows_are_a_share_of_each_class_whatever_the_seed(folder: Path) -> None:
    dataset = images(folder, valid=0.1)
    first, second = dataset.open(0), dataset.open(1)
    assert sizes(first) == (54, 6, 3) and same(list(first.valid()), list(second.valid()))
    assert np.bincount(labels(first.valid())).tolist() == [3, 2, 1]
    assert sorted(rows(first.valid()) + rows(first.train(1))) == list(range(60))
    assert rows(first.valid()) == sorted(rows(first.valid()))


@pytest.mark.parametrize("valid", [None, 0.0])
def test_nothing_is_held_out_of_a_single_run(folder: Path, valid: float | None) -> None:
    source = images(folder, valid=valid).open(0)
    assert sizes(source) == (60, 0, 3) and list(source.valid()) == []
    assert torch.cat([batch.index for batch in source.train(1)]).tolist() == rows(source.train(1))


def test_an_own_validation_split_is_used_where_it_is_not_tested_on(folder: Path) -> None:
    write(folder, "valid", [2, 1])
    for valid in (None, 0.1):
        source = images(folder, valid=valid).open(0)
        assert sizes(source) == (60, 2, 3) and labels(source.valid()) == [2, 1]
    assert sizes(images(folder, valid=0).open(0)) == (60, 0, 3)
    assert sizes(images(folder, valid=0.1, test_split="valid").open(0)) == (54, 6, 2)
    assert sizes(images(folder, test_split="valid").open(0)) == (60, 0, 2)


def test_an_own_validation_split_lies_where_the_others_do(folder: Path) -> None:
    files = list(folder.iterdir())
    write(folder / "data", "val", [2, 1])
    for file in files:
        file.rename(folder / "data" / file.name)
    assert sizes(images(folder).open(0)) == (60, 2, 3)
    (folder / "data" / "val-00000-of-00001.parquet").rename(folder / "data" / "val-00000-of-00002.parquet")
    with pytest.raises(DataError, match=r"val-00000-of-00002.* are missing: 1"):
        images(folder).open(0)


def test_an_own_validation_split_has_the_classes_of_the_training_split(folder: Path) -> None:
    write(folder, "validation", ["a", "b"])
    with pytest.raises(DataError, match=r"are int64 in .*, but string in .*One number would mean two classes"):
        images(folder).open(0)


@pytest.mark.parametrize(
    ("counts", "share", "words"),
    [
        ([40, 4], 0.1, r"data\.valid=0\.1 leaves class 1 empty: 0 of its 4 rows are held out.*Use data\.valid=0\.125"),
        ([40, 4], 0.9, r"leaves class 1 empty: 4 of its 4 rows.*Use data\.valid=0\.874"),
        ([40, 1], 0.5, r"leaves class 1 empty: 1 of its 1 rows.*Give each class two rows or more, or the data a"),
    ],
)
def test_no_class_is_left_empty(counts: list[int], share: float, words: str) -> None:
    classes = np.repeat(np.arange(2), counts)
    with pytest.raises(DataError, match=words):
        hold_out(classes, share)
    if advised := re.search(r"Use data\\.valid=(\d)\\(\.\d+)", words):
        assert 0 < hold_out(classes, float("".join(advised.groups()))).sum() < len(classes)


@pytest.mark.parametrize(
    ("count", "share", "words"),
    [
        (10, 0.01, r"leaves nothing to validate on: 0 of its 10 rows.*Use data\.valid=0\.05"),
        (10, 0.99, r"leaves nothing to train on: 10 of its 10 rows"),
        (1, 0.5, "Give the data two rows or more, or a validation split of its own"),
    ],
)
def test_of_data_without_classes_no_class_is_named(count: int, share: float, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        hold_out(np.zeros(count, np.int64), share)
    assert "class" not in str(caught.value)


def test_the_rows_of_many_classes_are_held_out_as_class_by_class() -> None:
    classes = np.random.default_rng(0).integers(0, 40, 1000)
    held = hold_out(classes, 0.3)
    for label in range(40):
        rows = np.flatnonzero(classes == label)
        order = np.random.default_rng(derive(0, "valid", label)).permutation(len(rows))
        expected = rows[order[: int(len(rows) * 0.3 + 0.5)]]
        assert np.flatnonzero(held & (classes == label)).tolist() == sorted(expected.tolist())


@pytest.mark.parametrize("valid", [-0.1, 1.0, 2.0])
def test_a_share_is_less_than_one(valid: float) -> None:
    with pytest.raises(ConfigError, match=rf"data\.valid={valid:g} is out of range.*at least 0 and less than 1"):
        images(Path(), valid=valid).check()


def test_the_identity_covers_what_is_held_out(folder: Path) -> None:
    found = [images(folder, valid=valid).identify() for valid in (None, 0.0, 0.1, 0.2)]
    assert found[0] == found[1] and len({identity.digest for identity in found}) == 3
    assert (found[2].num_train, found[2].num_valid, found[2].num_test) == (54, 6, 3)
    assert "54 rows to train, 6 to validate and 3 to test on" in str(found[2])
    write(folder, "valid", [2, 1])
    own = images(folder).identify()
    assert (own.num_train, own.num_valid) == (60, 2) and own.digest not in {identity.digest for identity in found}


def test_digits_are_held_out_too() -> None:
    dataset = dataset_of(replace(DATASETS.get("digits").config, valid=0.1))
    source = dataset.open(0)
    assert sizes(source) == (1294, 143, 360) and min(np.bincount(labels(source.valid()))) > 10
    assert dataset.identify().num_valid == 143


@pytest.mark.usefixtures("ray_session")
def test_streamed_rows_are_held_out_alike(folder: Path) -> None:
    stored, streamed = images(folder, valid=0.1).open(0), images(folder, valid=0.1, loading="stream").open(0)
    assert sizes(stored) == sizes(streamed) == (54, 6, 3)
    assert same(list(stored.valid()), list(streamed.valid())) and same(list(stored.test()), list(streamed.test()))
    assert sorted(rows(streamed.train(1))) == sorted(rows(stored.train(1)))
    assert same(list(stored.valid()), whole([streamed.shard(rank, 2).valid() for rank in range(2)]))
    batches = list(streamed.train(1))
    index = torch.cat([batch.index for batch in batches])
    assert sorted(index.tolist()) == list(range(54))
    assert rows(batches) == [sorted(rows(batches))[row] for row in index.tolist()]
