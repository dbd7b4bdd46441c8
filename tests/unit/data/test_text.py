"""Texts: tokens that stand for all bytes and words, and windows that cover them."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from isograd.data.batch import Batch
from isograd.data.dataset import DATASETS
from isograd.data.text import Text, TextConfig, TextSource
from isograd.data.tokens import Words
from isograd.errors import ConfigError, DataError
from tests.language import write_text

KINDS = ["bytes", "words", "bpe"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_text(tmp_path)


def text(folder: Path, tokenizer: str = "bytes", **options: Any) -> Text:
    size = {"bytes": 8192, "words": 16, "bpe": 300}[tokenizer]
    config = TextConfig("text", path=str(folder), context=7, batch_size=4, tokenizer=tokenizer, vocab_size=size)
    return Text(replace(config, **options))


def open_source(folder: Path, tokenizer: str = "bytes", **options: Any) -> TextSource:
    dataset = text(folder, tokenizer, **options)
    dataset.check()
    return dataset.open(seed=3)


def total(batches: Iterator[Batch], name: str) -> int:
    return sum(int(batch.targets[name].sum()) for batch in batches)


@pytest.mark.parametrize("tokenizer", KINDS)
def test_tokens_stand_for_every_byte_and_word_but_the_first(folder: Path, tokenizer: str) -> None:
    content = (folder / "test.txt").read_bytes()
    num_words = sum(len(line.split()) + 1 for line in content.splitlines())
    source = open_source(folder, tokenizer)
    assert 0 <= len(content) - total(source.test(), "num_bytes") <= 8
    assert 0 <= num_words - total(source.test(), "num_words") <= 1
    assert all(batch.inputs["tokens"].max() < text(folder, tokenizer).num_values for batch in source.test())


def test_windows_to_test_on_are_the_text_in_order(folder: Path) -> None:
    content = list((folder / "test.txt").read_bytes())
    batches = list(open_source(folder).test())
    given = torch.cat([batch.inputs["tokens"].flatten() for batch in batches])
    expected, valid = (torch.cat([batch.targets[name].flatten() for batch in batches]) for name in ("next", "valid"))
    assert expected[valid].tolist() == content[1:]
    assert given[valid].tolist() == content[:-1]
    assert valid.sum() == len(content) - 1 and valid[: len(content) - 1].all()
    assert [batch.number for batch in batches] == list(range(len(batches)))


def test_windows_to_train_on_shift_and_shuffle_by_epoch(folder: Path) -> None:
    content = (folder / "train.txt").read_bytes()
    source = open_source(folder)
    assert source.num_train == len(content) // 7 - 1
    starts = [window_starts(content, source, epoch) for epoch in (1, 2)]
    assert starts[0] == window_starts(content, source, 1)
    for found in starts:
        assert len({start % 7 for start in found}) == 1  # one offset, so no two windows overlap
        assert sorted(found) == list(range(min(found), min(found) + 7 * source.num_train, 7)) != found
    assert starts[0] != starts[1]
    later = [batch.index.tolist() for batch in source.train(1, first=2)]
    assert later == [batch.index.tolist() for batch in islice(source.train(1), 2, None)]


def window_starts(content: bytes, source: TextSource, epoch: int) -> list[int]:
    """Returns where the windows begin, and checks that targets are one token later."""
    offset = None
    starts = []
    for batch in source.train(epoch):
        assert batch.targets["valid"].all() and batch.targets["num_bytes"].tolist() == [7] * batch.size
        for tokens, expected, row in zip(batch.inputs["tokens"], batch.targets["next"], batch.index, strict=True):
            window = bytes([*tokens.tolist(), int(expected[-1])])
            assert expected[:-1].tolist() == tokens[1:].tolist()
            if offset is None:
                offset = next(at for at in range(7) if content[at + 7 * row : at + 7 * row + 8] == window)
            assert content[offset + 7 * row : offset + 7 * row + 8] == window
            starts.append(offset + 7 * int(row))
    return starts


def test_shards_together_are_the_whole(folder: Path) -> None:
    source = open_source(folder)
    shards = [list(source.shard(rank, 3).train(2)) for rank in range(3)]
    for whole, *parts in zip(source.train(2), *shards, strict=True):
        assert torch.equal(whole.inputs["tokens"], torch.cat([part.inputs["tokens"] for part in parts]))
        assert {part.number for part in parts} == {whole.number}


def test_a_share_to_validate_on_is_the_end_of_the_text(folder: Path) -> None:
    content = (folder / "train.txt").read_bytes()
    source, whole = open_source(folder, valid=0.25), open_source(folder)
    num_valid = 1 + total(source.valid(), "num_bytes")
    assert 0.15 < num_valid / len(content) < 0.26 and content[-num_valid - 1 : -num_valid] == b"\n"
    assert source.num_train == (len(content) - num_valid) // 7 - 1
    assert (whole.num_valid, whole.num_test) == (0, source.num_test)
    (folder / "valid.txt").write_bytes((folder / "test.txt").read_bytes() + b"more\n")
    assert open_source(folder, valid_file="valid.txt").num_valid >= source.num_test
    assert open_source(folder, valid_file="valid.txt", valid=0.0).num_valid == 0
    assert text(folder, valid=0.25).identify() != text(folder).identify() == text(folder).identify()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_file": "train.txt"}, "data.test_file=train.txt is the text of data.train_file=train.txt"),
        ({"valid_file": "test.txt"}, "data.valid_file=test.txt is the text of data.test_file=test.txt"),
        ({"valid_file": "copy.txt"}, "data.valid_file=copy.txt is the text of data.train_file=train.txt"),
    ],
)
def test_no_split_is_another_ones_text(folder: Path, options: dict[str, str], message: str) -> None:
    (folder / "copy.txt").write_bytes((folder / "train.txt").read_bytes())
    with pytest.raises(DataError, match=message) as caught:
        open_source(folder, **options)
    assert len(caught.value.args) == 3


def test_rare_words_are_unknown() -> None:
    words = Words.learn(b"b a a\nc <unk> a b\n", size=8, min_count=2)
    tokens, ends = words.split(b"a c\nb x")
    assert tokens.tolist() == [2, 0, 1, 3, 0] and ends.tolist() == [1, 3, 4, 5, 7]
    assert Words.learn(b"b a a\n", size=3, min_count=1).split(b"a b")[0].tolist() == [2, 0]


def test_parquet_rows_are_lines(folder: Path) -> None:
    for name in ("train", "test"):
        lines = (folder / f"{name}.txt").read_text().split("\n")[:-1]
        pq.write_table(pa.table({"text": lines, "n": list(range(len(lines)))}), folder / f"{name}.parquet")
    plain, stored = open_source(folder), open_source(folder, train_file="train.parquet", test_file="test.parquet")
    for one, other in zip(plain.train(1), stored.train(1), strict=True):
        assert torch.equal(one.inputs["tokens"], other.inputs["tokens"])
    with pytest.raises(DataError, match=r"no column 'txt'.*data.text_column"):
        open_source(folder, train_file="train.parquet", text_column="txt")


def test_wikitext2_says_that_it_trains_on_the_test_split(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "train.txt").rename(folder / "valid.txt")
    entry = DATASETS.get("wikitext2")
    entry.kind(replace(entry.config, path=str(folder))).open(0)
    assert "trains on test.txt and tests on valid.txt" in caplog.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train_file": "trian.txt"}, "no text .*trian.txt.*The folder has .*short.txt, test.txt, train.txt"),
        ({"path": "/nowhere"}, "There is no folder /nowhere"),
        ({"context": 100_000}, "bytes, and 200000 tokens are needed.*Use data.context=128, for example"),
        ({"train_file": "12.txt"}, r"12.txt has 12 bytes, and 14 tokens are needed"),
        ({"train_file": "12.txt", "context": 6, "valid": 0.4}, "12.txt has . tokens to use, and 12 are needed"),
        ({"test_file": "short.txt"}, r"short.txt has 1 tokens to use, and 2 are needed.*Use a longer text\."),
        ({"train_file": "numbers.parquet"}, r"column 'text' of .*numbers.parquet is int64, not text"),
        ({"train_file": "damaged.parquet"}, r"cannot read .*damaged.parquet"),
    ],
)
def test_texts_that_cannot_be_learned_are_refused(folder: Path, options: dict[str, Any], words: str) -> None:
    (folder / "short.txt").write_text("a")
    (folder / "12.txt").write_text("a\n" * 6)
    (folder / "damaged.parquet").write_bytes(b"PAR1")
    pq.write_table(pa.table({"text": [1, 2]}), folder / "numbers.parquet")
    with pytest.raises(DataError, match=words) as caught:
        open_source(folder, **options)
    assert len(caught.value.args) == 3


def test_the_shortest_text_to_train_on_has_a_window_at_every_offset(folder: Path) -> None:
    (folder / "14.txt").write_text("a" * 14)
    source = open_source(folder, train_file="14.txt")
    assert [[batch.size for batch in source.train(epoch)] for epoch in range(20)] == [[1]] * 20


def test_a_text_that_may_not_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"train\.txt cannot be read \(Permission denied\)"):
        open_source(folder)


def test_a_path_is_of_this_user_and_of_this_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    source = open_source(Path("~") / folder.name)
    monkeypatch.chdir(folder.parent)
    relative = open_source(Path(folder.name))
    monkeypatch.chdir("/")
    for batches in zip(open_source(folder).train(1), source.train(1), relative.train(1), strict=True):
        assert len({tuple(batch.inputs["tokens"].flatten().tolist()) for batch in batches}) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"vocab_size": 100}, "data.vocab_size=100 would change nothing"),
        ({"tokenizer": "bpe", "vocab_size": 300, "min_count": 2}, "data.min_count=2 would change nothing"),
        ({"tokenizer": "bpe", "vocab_size": 255}, "data.vocab_size=255 is too small"),
        ({"tokenizer": "letters"}, "data.tokenizer='letters' is not known"),
        ({"context": 1}, "data.context=1 is out of range"),
    ],
)
def test_options_that_no_run_can_have_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Text(replace(TextConfig("text"), **options)).check()
