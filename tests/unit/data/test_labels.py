"""Columns as the hub has them: plain binary images, and labels as numbers, truth values and text."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from isograd.config.load import load
from isograd.data.dataset import DATASETS, dataset_of
from isograd.data.identity import Identity
from isograd.data.label_checks import check_labels
from isograd.data.parquet import find_splits
from isograd.data.stored_images import load_images
from isograd.errors import ConfigError, DataError
from tests.unit.data.folders import find_split


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), value).save(buffer, "PNG")
    return buffer.getvalue()


def write(folder: Path, split: str, labels: Any, names: list[str] | None = None, image: Any = None) -> Path:
    images = pa.array([png(row) for row in range(len(labels))], image or pa.binary())
    table = pa.table({"image": images, "label": labels})
    if names is not None:
        features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    folder.mkdir(exist_ok=True)
    pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        (pa.array(["dog", "cat", "dog"]), [1, 0, 1]),
        (pa.array(["dog", "cat", "dog"], pa.large_string()), [1, 0, 1]),
        (pa.array(["dog", "cat", "dog"]).dictionary_encode(), [1, 0, 1]),
        (pa.array(["10", "9", "é"]), [0, 1, 2]),
        (pa.array(["\u00e9", "e\u0301", "f"]), [1, 1, 0]),
        (pa.array(["\u00e9", "e\u0301", "f"], pa.large_string()).dictionary_encode(), [1, 1, 0]),
        (pa.array([2, 0, 1], pa.uint64()), [2, 0, 1]),
        (pa.array([True, False, True]), [1, 0, 1]),
        (pa.array([2, 0, 1], pa.uint8()), [2, 0, 1]),
        (pa.array([2, 0, 1]).dictionary_encode(), [2, 0, 1]),
    ],
)
def test_labels_of_every_kind(tmp_path: Path, labels: Any, numbers: list[int]) -> None:
    split = find_split(write(tmp_path, "train", labels), "train")
    assert check_labels(split, 3).tolist() == numbers
    assert split.read(split.groups[0])[1].tolist() == numbers


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.dictionary(pa.int32(), pa.binary())])
def test_plain_binary_images(tmp_path: Path, kind: pa.DataType) -> None:
    images, _ = load_images(find_split(write(tmp_path, "train", [0, 1], image=kind), "train"), (1, 4, 4), 2)
    assert images[:, 0, 0, 0].tolist() == [0, 1]


def test_the_split_to_test_on_has_the_names_of_the_training_split(tmp_path: Path) -> None:
    write(tmp_path, "train", ["ant", "bee", "cat"])
    *_, test = find_splits(write(tmp_path, "test", ["cat", "bee"]), "test")
    assert check_labels(test, 3).tolist() == [2, 1]
    with pytest.raises(DataError, match="the test split has 1 labels that the train split does not have: 'dog'"):
        find_splits(write(tmp_path, "test", ["cat", "dog"]), "test")


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        ((["a", "b"], None), ([0, 1], None), "are string in .*, but int64 in"),
        (([0, 1], ["cat", "dog"]), ([0, 1], ["dog", "cat"]), "call 0 'cat' in .*, but 'dog' in"),
        (([0, 1], ["cat", "dog"]), ([0, 1], ["cat", "dog", "eel"]), "have 2 names in .*, but 3 in"),
    ],
)
def test_one_number_means_one_class(tmp_path: Path, train: Any, test: Any, words: str) -> None:
    write(tmp_path, "train", *train)
    with pytest.raises(DataError, match=f"{words}.*One number would mean two classes"):
        find_splits(write(tmp_path, "test", *test), "test")


def test_names_count_wherever_they_are(tmp_path: Path) -> None:
    write(tmp_path / "first", "train", [0, 1])
    write(tmp_path / "second", "train", [0, 1], ["cat", "dog"])
    write(tmp_path, "test", [0, 1], ["dog", "cat"])
    for number, folder in enumerate(("first", "second")):
        (tmp_path / folder / "train-00000-of-00001.parquet").rename(tmp_path / f"train-0000{number}-of-00002.parquet")
    with pytest.raises(DataError, match=r"call 0 'cat' in .*train-00001.*, but 'dog' in .*test-00000"):
        find_splits(tmp_path, "test")


@pytest.mark.parametrize("largest", [10**6, 2**62])
def test_identifiers_are_no_classes(tmp_path: Path, largest: int) -> None:
    split = find_split(write(tmp_path, "train", [0, largest]), "train")
    with pytest.raises(DataError, match=f"Number the classes from 0: labels up to {largest:,} identify something"):
        check_labels(split, 2)
    with pytest.raises(ConfigError, match=r"num_classes=.* is out of range"):
        check(load(["data=parquet", f"data.num_classes={largest + 1}"]))


def test_accents_are_written_in_two_ways(tmp_path: Path) -> None:
    write(tmp_path, "train", [0, 1], ["\u00e9", "f"])
    *_, test = find_splits(write(tmp_path, "test", [1, 0], ["e\u0301", "f"]), "test")
    assert check_labels(test, 2).tolist() == [1, 0]
    write(tmp_path / "text", "train", ["\u00e9", "f"])
    *_, test = find_splits(write(tmp_path / "text", "test", ["f", "e\u0301"]), "test")
    assert check_labels(test, 2).tolist() == [0, 1]


@pytest.mark.parametrize("largest", [2**63, 2**64 - 1])
def test_a_number_too_large_is_no_negative_one(tmp_path: Path, largest: int) -> None:
    split = find_split(write(tmp_path, "train", pa.array([0, largest], pa.uint64())), "train")
    with pytest.raises(DataError, match=f"a label is {largest:,}, too large .*: column 'label' of .*train-00000"):
        check_labels(split, 2)


def test_the_hidden_label_of_the_hub_is_a_mistake_in_the_training_split(tmp_path: Path) -> None:
    hidden = "a part of the training split, in a file test.parquet"
    for split, mend in (("train", "Number the classes from 0"), ("test", hidden)):
        with pytest.raises(DataError, match=rf"has label -1.*{mend}"):
            check_labels(find_split(write(tmp_path, split, [0, -1]), split), 2)
    write(tmp_path, "validation", [0, 1])
    with pytest.raises(DataError, match=r"has label -1.*data\.test_split=validation"):
        check_labels(find_split(tmp_path, "test"), 2)


def test_a_null_name_is_no_label(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1 of .* has no label"):
        check_labels(find_split(write(tmp_path, "train", pa.array(["a", None])), "train"), 2)


def test_an_empty_name_is_no_label(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1 of .* has no label, but an empty text"):
        check_labels(find_split(write(tmp_path, "train", pa.array(["a", " ", "b"])), "train"), 3)


def test_more_names_than_classes_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has label 2 \('c'\), not one of 0 to 1.*Use data\.num_classes=3"):
        check_labels(find_split(write(tmp_path, "train", ["a", "b", "c"]), "train"), 2)


def open_source(config: Any, seed: int) -> Any:
    return dataset_of(config).open(seed)


def identify(config: Any) -> Identity:
    return dataset_of(config).identify()


def check(config: Any) -> None:
    dataset_of(config.data).check()


def config(folder: Path, **changes: Any) -> Any:
    shape = {"image_shape": [1, 4, 4], "mean": [0.5], "std": [0.5]}
    return replace(DATASETS.get("parquet").config, path=str(folder), **shape, **changes)


@pytest.mark.parametrize("loading", ["memory", "stream"])
def test_a_single_class_is_refused(tmp_path: Path, loading: str) -> None:
    write(tmp_path, "train", [1, 1, 1])
    write(tmp_path, "test", [0, 1])
    with pytest.raises(DataError, match=r"all 3 images of the train split have label 1.*nothing to tell apart"):
        open_source(config(tmp_path, loading=loading), 0)


@pytest.mark.parametrize("loading", ["memory", "stream"])
@pytest.mark.parametrize(
    ("labels", "names", "num_named"),
    [([0, 1], ["cat", "dog"], 2), ([0, 1], ["cat", "dog", "eel"], 3), (["cat", "dog"], None, 2)],
)
def test_more_classes_than_have_names_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, labels: Any, names: list[str] | None, num_named: int, loading: str
) -> None:
    write(tmp_path, "train", labels * 5)
    write(tmp_path, "test", labels, names)  # wherever the names are
    open_source(config(tmp_path, loading=loading, num_classes=5), 0)
    said = rf"3 of data\.num_classes=5 .*: 2, 3, 4\. The labels there are 0 to 1, and {num_named} classes have names"
    assert re.search(said, caplog.text)
    caplog.clear()
    open_source(config(tmp_path, loading=loading, num_classes=2), 0)  # a part of a data set has the names of all of it
    assert not caplog.text


def test_what_the_message_of_too_few_classes_says_works(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "train", [0, 1, 2, 3], ["a", "b", "c", "d", "e"])
    write(tmp_path, "test", [0, 4])
    with pytest.raises(DataError, match=r"has label 2, not one of 0 to 1.*Use data\.num_classes=5"):
        open_source(config(tmp_path, num_classes=2), 0)
    write(tmp_path, "train", [1, 2, 3], ["a", "b", "c"])  # counted from 1, as EMNIST's letters are
    write(tmp_path, "test", [3])
    with pytest.raises(DataError, match=r"has label 3, not one of 0 to 2.*Use data\.num_classes=4"):
        open_source(config(tmp_path, num_classes=3), 0)
    open_source(config(tmp_path, num_classes=4), 0)
    assert re.search(r"1 of data\.num_classes=4 classes have no image to train on: 0\. .* 1 to 3", caplog.text)


@pytest.mark.parametrize("loading", ["memory", "stream"])
def test_classes_without_images_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture, loading: str) -> None:
    write(tmp_path, "train", [0, 1, 2])
    write(tmp_path, "test", [9])
    open_source(config(tmp_path, loading=loading), 0)
    assert re.search(r"7 of data\.num_classes=10 .*: 3, 4, 5, 6, 7, and others\. .* 0 to 2", caplog.text)


def test_that_what_is_trained_on_is_tested_on_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "train", [0, 1])
    source = open_source(config(tmp_path, num_classes=2, test_split="train"), 0)
    assert source.num_test == source.num_train == 2 and "what is trained on is tested on" in caplog.text


def test_rows_sorted_by_class_are_not_streamed_unsaid(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(write(tmp_path, "train", [0, 0, 1, 1]), "test", [0, 1])
    table = pq.read_table(tmp_path / "train-00000-of-00001.parquet")
    pq.write_table(table, tmp_path / "train-00000-of-00001.parquet", row_group_size=2)
    options = {"loading": "stream", "num_classes": 2}
    open_source(config(tmp_path, window=4, **options), 0)
    assert not caplog.text
    open_source(config(tmp_path, window=2, **options), 0)
    assert re.search(r"sorted by class, .* in 2 windows of about data\.window=2.*data\.window=4", caplog.text)


def test_one_class_is_no_number_of_classes() -> None:
    with pytest.raises(ConfigError, match=r"data\.num_classes=1 leaves nothing to tell apart"):
        check(load(["data=parquet", "data.num_classes=1"]))


def test_what_is_resized_covers_the_crop() -> None:
    options = ["data=parquet", "data.loading=stream", "data.crop=random"]
    assert load(options).data.test_resize == 36
    assert load(["data=imagenet"]).data.test_resize == 256
    check(load([*options, "data.resize=32"]))
    with pytest.raises(ConfigError, match=r"data\.resize=31 is less than 32.*Use data\.resize=36"):
        check(load([*options, "data.resize=31"]))


def test_identity_is_the_content_wherever_it_lies(tmp_path: Path) -> None:
    def made(name: str, train: list[int], test: list[int]) -> Path:
        return write(write(tmp_path / name, "train", train), "test", test)

    first = identify(config(made("a", [0, 1, 2], [1, 0])))
    assert identify(config(made("b", [0, 1, 2], [1, 0]))) == first
    assert (first.num_train, first.num_test) == (3, 2)
    others = [made("c", [0, 2, 1], [1, 0]), made("d", [0, 1, 2], [0, 1]), made("e", [0, 1, 2, 2], [1, 0])]
    assert len({first.digest, *(identify(config(other)).digest for other in others)}) == 4
    made("a", [2, 1, 0], [1, 0])
    assert identify(config(tmp_path / "a")) != first
    digits = identify(DATASETS.get("digits").config)
    assert (digits.num_train, digits.num_test) == (1437, 360) and digits == identify(DATASETS.get("digits").config)
