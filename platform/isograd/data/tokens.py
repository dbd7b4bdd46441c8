"""From text to tokens: bytes, words, or pieces of words (BPE); what was encoded is kept in a cache, memory-mapped."""

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from isograd.data.access import open_parquet, reading, stamp
from isograd.data.columns import check_column
from isograd.data.labels import is_text
from isograd.errors import ConfigError, DataError, MachineError
from isograd.system.files import replacing
from isograd.system.paths import user_path

if TYPE_CHECKING:
    from tokenizers import Tokenizer as PieceModel

_FORMAT = 1  # of what is kept in the cache
_WORD = re.compile(rb"\n|[^ \t\n\r\x0b\x0c]+")
UNKNOWN, END = b"<unk>", b"<eos>"


class Encoded(NamedTuple):
    """A text as tokens.

    Attributes:
        tokens: (N,) of the smallest unsigned type.
        num_bytes: (N,), of the text that each token stands for; white space between words belongs to the next one.
        num_words: (N,), of the words that end in it; the end of a line counts as one.
    """

    tokens: np.ndarray
    num_bytes: np.ndarray
    num_words: np.ndarray


class Tokenizer(ABC):
    """Splits a text into tokens."""

    @abstractmethod
    def split(self, text: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Returns the numbers of the tokens, and for each the position in the text where it ends, (N,) each."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Writes what was learnt from the text to train on."""

    def encode(self, text: bytes) -> Encoded:
        """Returns the tokens of a text, with the bytes and words that they stand for."""
        tokens, ends = self.split(text)
        words = np.concatenate(([0], np.cumsum(_word_ends(text))))
        counts = np.diff(ends, prepend=0), np.diff(words[ends], prepend=0)
        return Encoded(*(array.astype(np.min_scalar_type(array.max(initial=0))) for array in (tokens, *counts)))


class Bytes(Tokenizer):
    """Each byte is a token."""

    def split(self, text: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Returns the bytes."""
        return np.frombuffer(text, np.uint8), np.arange(1, len(text) + 1)

    def save(self, path: Path) -> None:
        """There is nothing to keep."""
        path.write_bytes(b"")


class Words(Tokenizer):
    """What stands between white space; rare words are one token, ``<unk>``, and a line ends with another, ``<eos>``.

    Args:
        vocabulary: By number; the first two are these.
    """

    def __init__(self, vocabulary: Sequence[bytes]) -> None:
        self._vocabulary = vocabulary
        self._numbers = {word: number for number, word in enumerate(vocabulary)}
        self._numbers[b"\n"] = self._numbers[END]

    @classmethod
    def learn(cls, text: bytes, size: int, min_count: int) -> "Words":
        """Takes the words that are there ``min_count`` times, the most frequent ones where they are too many."""
        counts = Counter(_WORD.findall(text))
        for word in (b"\n", UNKNOWN, END):
            counts.pop(word, None)
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        return cls([UNKNOWN, END, *(word for word in ordered if counts[word] >= min_count)][:size])

    def split(self, text: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Returns the words; bytes of unknown ones count all the same."""
        found = [(self._numbers.get(match[0], 0), match.end()) for match in _WORD.finditer(text)]
        tokens, ends = np.array(found, np.int64).reshape(-1, 2).T
        return tokens, ends

    def save(self, path: Path) -> None:
        """Writes one word a line."""
        path.write_bytes(b"\n".join(self._vocabulary))


class BPE(Tokenizer):
    """Byte-pair encoding, by the library `tokenizers`: pieces of words, learnt; any text can be written with them.

    Args:
        model: The library's tokenizer of bytes.
    """

    def __init__(self, model: "PieceModel") -> None:
        self._model = model
        # A token is spelt with one character for each of its bytes.
        pieces = (model.id_to_token(number) for number in range(model.get_vocab_size()))
        self._lengths = np.array([len(piece or "") for piece in pieces])

    @classmethod
    def learn(cls, text: bytes, size: int) -> "BPE":
        """Learns ``size`` pieces at most."""
        library = _library()
        model = library.Tokenizer(library.models.BPE())
        model.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = library.pre_tokenizers.ByteLevel.alphabet()
        trainer = library.trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
        model.train_from_iterator(_lines(text), trainer)
        return cls(model)

    def split(self, text: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Returns the pieces; none reaches over the end of a line."""
        rows = [encoding.ids for encoding in self._model.encode_batch(_lines(text))]
        tokens = np.fromiter((number for row in rows for number in row), np.int64)
        return tokens, np.cumsum(self._lengths[tokens])

    def save(self, path: Path) -> None:
        """Writes the library's own JSON."""
        path.write_text(self._model.to_str(), encoding="utf-8")


@dataclass(frozen=True)
class Extract:
    """A part of a text file, or of the column of a Parquet file, whose rows are lines then.

    Attributes:
        path: Of the file.
        column: Of a Parquet file.
        start: First byte.
        stop: The byte after the last; None: to the end.
    """

    path: Path
    column: str = "text"
    start: int = 0
    stop: int | None = None

    def read(self) -> bytes:
        """Returns the text. Raises DataError where the file is not there, cannot be read, or is no text."""
        return _read(self.path, self.column)[self.start : self.stop]

    @property
    def digest(self) -> str:
        """Of the text."""
        return _digest(self, _written(self.path))


@dataclass(frozen=True)
class Recipe:
    """How a text becomes tokens: a tokenizer, and the text that it is learnt from.

    Attributes:
        kind: ``bytes``, ``words`` or ``bpe``.
        size: Most tokens, V.
        min_count: Of a word in the text to learn from.
        corpus: That text.
    """

    kind: str
    size: int
    min_count: int
    corpus: Extract

    @cached_property
    def key(self) -> str:
        """Names the tokenizer among others."""
        learnt_from = "" if self.kind == "bytes" else self.corpus.digest
        return _short(_FORMAT, self.kind, self.size, self.min_count, learnt_from)

    def tokenizer(self) -> Tokenizer:
        """Returns the tokenizer, learnt now or before."""
        if self.kind == "bytes":
            return Bytes()
        path = cache_folder() / f"{self.key}.{'txt' if self.kind == 'words' else 'json'}"
        if not path.exists():
            _keep(path, self._learn().save)
        if self.kind == "words":
            return Words(path.read_bytes().split(b"\n"))
        return BPE(_library().Tokenizer.from_file(str(path)))

    def encode(self, text: Extract) -> Encoded:
        """Returns the tokens of a text, memory-mapped: encoded now, or before."""
        folder = cache_folder() / _short(self.key, text.digest)
        paths = [folder.with_suffix(f".{name}.npy") for name in Encoded._fields]
        if not all(path.exists() for path in paths):
            for path, array in zip(paths, self.tokenizer().encode(text.read()), strict=True):
                _keep(path, lambda draft, array=array: _save(draft, array))
        return Encoded(*(np.load(path, mmap_mode="r") for path in paths))

    def _learn(self) -> Tokenizer:
        text = self.corpus.read()
        return Words.learn(text, self.size, self.min_count) if self.kind == "words" else BPE.learn(text, self.size)


def cache_folder() -> Path:
    """Returns where encoded texts are kept: below ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").absolute() / "isograd" / "text"


def line_end(text: Extract, share: float) -> int:
    """Returns where the last ``share`` of a text begins: after the end of a line."""
    return _line_end(text, share, _written(text.path))


def _keep(path: Path, write: Callable[[Path], None]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as draft:
            write(draft)
    except OSError as error:
        raise MachineError(
            f"the tokens of a text cannot be written to {path.parent} ({error.strerror})",
            "They are read from there, memory-mapped, by every process that trains on them",
            "Set XDG_CACHE_HOME to a folder that can be written to.",
        ) from error


def _save(draft: Path, array: np.ndarray) -> None:
    with draft.open("wb") as file:
        np.save(file, array)


def _word_ends(text: bytes) -> np.ndarray:
    """Returns at which bytes a word or a line ends, (N,) bool."""
    raw = np.frombuffer(text, np.uint8)
    is_space = np.isin(raw, np.frombuffer(b" \t\n\r\x0b\x0c", np.uint8))
    return (~is_space & np.append(is_space[1:], True)) | (raw == ord("\n"))


def _lines(text: bytes) -> list[str]:
    try:
        return re.findall(r"[^\n]*\n|[^\n]+$", text.decode())
    except UnicodeDecodeError as error:
        raise DataError(
            f"byte {error.start:,} of the text is no UTF-8",
            "data.tokenizer=bpe learns pieces of characters",
            "Use data.tokenizer=bytes, or write the text again in UTF-8.",
        ) from error


def _read(path: Path, column: str) -> bytes:
    _written(path)
    if path.suffix != ".parquet":
        with reading(path):
            return path.read_bytes()
    with open_parquet(path) as file:
        check_column(
            *(path, file.schema_arrow, column, is_text, "text"),
            option="data.text_column",
            mend="Write the file again with a line of text in each row.",
        )
        rows = file.read(columns=[column]).column(column).to_pylist()
    return b"".join(row.encode() + b"\n" * (not row.endswith("\n")) for row in rows if row is not None)


def _written(path: Path) -> tuple[int, int]:
    """Returns what changes when a file does, its time and its size. Raises DataError where it is not there."""
    folder = path.parent
    with reading(path):
        if path.is_file():
            return stamp(path)
        there = sorted(item.name for item in folder.iterdir()) if folder.is_dir() else None
    raise DataError(
        f"there is no text {path}",
        f"There is no folder {folder}" if there is None else f"The folder has {', '.join(there[:8]) or 'no files'}",
        "Use data.path=FOLDER, and data.train_file and data.test_file with the names of the files in it.",
    )


# Texts are read once for all the runs that a process makes on them, as long as their files do not change.
@lru_cache(maxsize=16)
def _digest(text: Extract, written: tuple[int, int]) -> str:
    return hashlib.sha256(text.read()).hexdigest()[:16]


@lru_cache(maxsize=16)
def _line_end(text: Extract, share: float, written: tuple[int, int]) -> int:
    content = text.read()
    found = content.find(b"\n", int(len(content) * (1 - share)))
    return len(content) if found < 0 else found + 1


def _short(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _library() -> ModuleType:
    try:
        return import_module("tokenizers")
    except ImportError as error:
        raise ConfigError(
            "data.tokenizer=bpe needs the package tokenizers, which is not installed",
            "It learns the pieces of words, and splits text into them",
            "Run `pip install 'isograd[text]'`, or use data.tokenizer=bytes or words.",
        ) from error
