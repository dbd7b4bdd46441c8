"""Text as windows of tokens, each to be predicted from those before it."""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from isograd.data.batch import Batch, num_batches
from isograd.data.dataset import DATASETS, Dataset, DatasetEntry, StoredConfig
from isograd.data.field import Field, Fields
from isograd.data.identity import Identity
from isograd.data.rows import Parted
from isograd.data.tokens import Encoded, Extract, Recipe, line_end
from isograd.errors import ConfigError, DataError
from isograd.options import choice, number
from isograd.seeding import generator
from isograd.system.paths import user_path

_LOG = logging.getLogger(__name__)
_NUM_BYTES = 256


@dataclass
class TextConfig(StoredConfig):
    """Where a text lies, and how it is cut up.

    Attributes:
        path: Folder of the files.
        train_file: Plain text, or Parquet with one column of lines.
        valid_file: Likewise; empty: there is none, and ``valid`` holds out the end of the text to train on.
        test_file: Likewise.
        text_column: Of Parquet files.
        tokenizer: ``bytes``; ``words`` (between white space, lines end with ``<eos>``); or ``bpe`` (needs the package
            tokenizers). Words and pieces are learnt from the text to train on.
        vocab_size: V, the most that ``words`` and ``bpe`` tell apart.
        min_count: Words that are there less often are ``<unk>``.
        context: T, tokens of a window.
    """

    train_file: str = "train.txt"
    valid_file: str = ""
    test_file: str = "test.txt"
    text_column: str = "text"
    tokenizer: str = choice("bytes", "words", "bpe")
    vocab_size: int = number(8192, 3)
    min_count: int = number(1, 1)
    context: int = number(128, 2)


class Splits(NamedTuple):
    """The text to train, to validate and to test on; the second may be empty."""

    train: Extract
    valid: Extract
    test: Extract


class Text(Dataset[TextConfig]):
    """Windows of T tokens; the targets are the same windows one token later."""

    Config = TextConfig

    @property
    def num_values(self) -> int:
        """V. It is an option and not found out, since networks are built where the text may not be."""
        return _NUM_BYTES if self.config.tokenizer == "bytes" else self.config.vocab_size

    @property
    def inputs(self) -> Fields:
        """``tokens``, (T,)."""
        return {"tokens": Field((self.config.context,), torch.int64, "tokens", self.num_values)}

    @property
    def targets(self) -> Fields:
        """``next``, (T,); which of them are there (the last window of a text is padded); what they stand for."""
        return {
            "next": Field((self.config.context,), torch.int64, "tokens", self.num_values),
            "valid": Field((self.config.context,), torch.bool, "vector"),
            "num_bytes": Field((), torch.int64, "scalar"),
            "num_words": Field((), torch.int64, "scalar"),
        }

    def check(self) -> None:
        """As for all data; options that the tokenizer does not read; a text with fewer bytes than two windows have."""
        super().check()
        config, default = self.config, TextConfig()
        read = {"bytes": (), "words": ("vocab_size", "min_count"), "bpe": ("vocab_size",)}[config.tokenizer]
        for name in ("vocab_size", "min_count"):
            if name not in read and getattr(config, name) != getattr(default, name):
                raise ConfigError(
                    f"data.{name}={getattr(config, name)} would change nothing",
                    f"Nothing reads it with data.tokenizer={config.tokenizer}",
                    f"Leave data.{name} out, or use data.tokenizer=words.",
                )
        if config.tokenizer == "bpe" and config.vocab_size < _NUM_BYTES:
            raise ConfigError(
                f"data.vocab_size={config.vocab_size} is too small for data.tokenizer=bpe",
                f"Each of the {_NUM_BYTES} bytes is a piece of its own, so that any text can be written",
                "Use data.vocab_size=1024, for example.",
            )
        # Found here, for what is built and timed before the text is read may be too large to ever end.
        train = user_path(config.path) / config.train_file
        if train.suffix != ".parquet" and train.is_file() and train.stat().st_size < 2 * config.context:
            raise DataError(
                f"{train} has {train.stat().st_size} bytes, and {2 * config.context} tokens are needed",
                f"A token has at least one, and windows of data.context={config.context} begin anywhere in the first",
                f"Use data.context={TextConfig().context}, for example, or a longer text.",
            )

    def open(self, seed: int) -> "TextSource":
        """Encodes the files, if that has not been done before, and returns their windows.

        It logs a warning where a file is trained on whose name says that it is there to test on.

        Raises:
            DataError: A file is missing, or too short for a window.
        """
        config = self.config
        if Path(config.train_file).stem in ("valid", "validation", "test"):
            _LOG.warning(
                "data=%s trains on %s and tests on %s: numbers are not those of the published split",
                *(config.name, config.train_file, config.test_file),
            )
        return self._source(seed)

    def identify(self) -> Identity:
        """Returns what the texts are. Raises DataError where they are missing."""
        source, splits = self._source(0), self._splits()
        num_bytes = sum(path.stat().st_size for path in {split.path for split in splits})
        digest = hashlib.sha256(" ".join(split.digest for split in splits).encode()).hexdigest()[:16]
        return Identity(digest, source.num_train, source.num_test, num_bytes, source.num_valid)

    def _source(self, seed: int) -> "TextSource":
        config, splits = self.config, self._splits()
        recipe = Recipe(config.tokenizer, self.num_values, config.min_count, splits.train)
        lengths = [len(recipe.encode(split).tokens) for split in splits]
        for split, length in zip(splits, lengths, strict=True):
            least = 2 * config.context if split is splits.train else 2
            if length < least and split.stop != split.start:
                shorter = f"data.context={length // 2}, or " if least > 2 and length >= 4 else ""
                raise DataError(
                    f"{split.path} has {length} tokens to use, and {least} are needed",
                    "Each is predicted from those before it, and to train on, windows begin anywhere in the first one",
                    f"Use {shorter}a longer text.",
                )
        return TextSource(recipe, splits, lengths, context=config.context, batch_size=config.batch_size, seed=seed)

    def _splits(self) -> Splits:
        config, folder = self.config, user_path(self.config.path).resolve()  # a worker has another working directory
        validates = config.valid != 0 and bool(config.valid_file)
        options = ["train_file", "test_file", *(["valid_file"] if validates else [])]
        texts = {option: Extract(folder / getattr(config, option), config.text_column) for option in options}
        _refuse_twice(texts)
        train, test = texts["train_file"], texts["test_file"]
        if validates:
            return Splits(train, texts["valid_file"], test)
        cut = line_end(train, config.valid) if config.valid else None
        valid = replace(train, start=0 if cut is None else cut, stop=0 if cut is None else None)
        return Splits(replace(train, stop=cut), valid, test)


def _refuse_twice(texts: Mapping[str, Extract]) -> None:
    """Raises DataError where two splits are the same text, under whatever names."""
    seen: dict[str, str] = {}
    for option, text in texts.items():
        if (other := seen.setdefault(text.digest, option)) != option:
            raise DataError(
                f"data.{option}={text.path.name} is the text of data.{other}={texts[other].path.name}",
                "A score of text that was trained on, or chosen by, says nothing of other text",
                f"Use another file for data.{option}"
                + (", or data.valid=0.1 without one." if option == "valid_file" else "."),
            )


class TextSource(Parted):
    """Windows of tokens. Implements :class:`~isograd.data.batch.Source`.

    Training windows do not overlap; they begin at an offset below T that depends on (seed, epoch), in an order that
    does, too, and the rest of the text is dropped. Windows to validate and test on begin at 0, and the last one is
    padded, so that each token but the first is predicted once, from 1 to T tokens before it.

    Args:
        recipe: Makes the tokens.
        splits: The texts.
        lengths: Their numbers of tokens.
        context: T.
        batch_size: Windows a batch.
        seed: Of offset and order.
    """

    def __init__(
        self, recipe: Recipe, splits: Splits, lengths: list[int], *, context: int, batch_size: int, seed: int
    ) -> None:
        train, *others = lengths
        valid, test = (-(-max(length - 1, 0) // context) for length in others)
        super().__init__(((train - context) // context, valid, test), batch_size)  # to train on, at every offset
        self._recipe, self._splits, self._context, self.seed = recipe, splits, context, seed

    def train(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yields the epoch's batches, shifted and shuffled by (seed, epoch)."""
        offset = int(torch.randint(self._context, (), generator=generator(self.seed, "offset", epoch)))
        order = torch.randperm(self.num_train, generator=generator(self.seed, "order", epoch)).numpy()
        return self._batches(self._splits.train, order, offset, first)

    def valid(self) -> Iterator[Batch]:
        """Yields the windows to validate on, in order."""
        return self._batches(self._splits.valid, np.arange(self.num_valid))

    def test(self) -> Iterator[Batch]:
        """Yields the windows to test on, in order."""
        return self._batches(self._splits.test, np.arange(self.num_test))

    def _batches(self, split: Extract, order: np.ndarray, offset: int = 0, first: int = 0) -> Iterator[Batch]:
        text = self._recipe.encode(split)
        for at in range(first, num_batches(len(order), self.batch_size)):
            rows = order[at * self.batch_size : (at + 1) * self.batch_size]
            rows = rows[self._part.of(len(rows), at)]
            yield _windows(text, rows, offset + rows * self._context, self._context, at)


def _windows(text: Encoded, rows: np.ndarray, starts: np.ndarray, context: int, at: int) -> Batch:
    """Returns the windows that begin at ``starts``, (B,), padded with the last token where the text ends."""
    places = starts[:, None] + np.arange(context + 1)  # (B, T + 1)
    is_valid = places[:, 1:] < len(text.tokens)
    places = np.minimum(places, len(text.tokens) - 1)
    tokens = torch.from_numpy(np.asarray(text.tokens[places], np.int64))
    counts = [np.where(is_valid, array[places[:, 1:]], 0).sum(1, dtype=np.int64) for array in text[1:]]
    num_bytes, num_words = map(torch.from_numpy, counts)
    targets = {"next": tokens[:, 1:].contiguous(), "valid": torch.from_numpy(is_valid)}
    targets |= {"num_bytes": num_bytes, "num_words": num_words}
    return Batch({"tokens": tokens[:, :-1].contiguous()}, targets, torch.from_numpy(rows), at)


DATASETS.add("text", DatasetEntry(TextConfig("text"), Text))
# Its train split is not at hand everywhere, so this trains on the one that is there to test on.
DATASETS.add(
    "wikitext2",
    DatasetEntry(TextConfig("wikitext2", path="data/wikitext2", train_file="test.txt", test_file="valid.txt"), Text),
)
