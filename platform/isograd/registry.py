"""Name -> plug-in. One registry a kind (method, model, task, data set, partition rule); it feeds configuration,
command line, search and the conformance tests."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar, cast

from isograd.errors import ConfigError, UnknownNameError


def suggestion(name: str, known: Iterable[str]) -> str:
    """Returns ``" Did you mean 'x'?"`` for a misspelt ``name``, or an empty string."""
    close = closest(name, known)
    return f" Did you mean '{close}'?" if close else ""


def closest(name: str, known: Iterable[str]) -> str | None:
    """Returns what a misspelt ``name`` most likely stands for; None: nothing is like it.

    Of dotted names it is one of the same section, where there is such a section (``optimizer.rate`` is no
    ``model.rate``). One that ends so comes first (``optimizer.lr`` for ``lr``), then one with the same initials
    (``optimizer.lr`` for ``learning_rate``), then one with the same words and others (``data.batch_size`` for
    ``batch``).
    """
    section, _, last = name.rpartition(".")
    known = list(known)
    inside = [other for other in known if section and other.rpartition(".")[0] == section]
    names = {_last(other): other for other in inside} or {other: other for other in known}
    ending = [other for other in names.values() if other.endswith(f".{name}")]
    lasts = {other: _last(other) for other in names.values()} if inside or not section else {}
    initials = [other for other in lasts if _abbreviates(last, lasts[other])]
    worded = [other for other in lasts if _shares_words(last, lasts[other])]
    like = difflib.get_close_matches(last if inside else name, names, n=1, cutoff=0.5)
    return next(iter([*ending, *initials, *worded, *(names[found] for found in like)]), None)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _abbreviates(first: str, second: str) -> bool:
    """Whether one of two names has the initials of the other one's words."""
    pairs = ((first.split("_"), second), (second.split("_"), first))
    return any(len(words) > 1 and "".join(word[:1] for word in words) == short for words, short in pairs)


def _shares_words(first: str, second: str) -> bool:
    """Whether one of two names has all words of the other one, and more."""
    few, many = sorted((set(first.split("_")), set(second.split("_"))), key=len)
    return few < many


T = TypeVar("T")
S = TypeVar("S")


class Registry(Generic[T]):
    """A mapping from names to entries of one kind.

    Args:
        kind: What an entry is, as a user would call it ("method").
        discover: Called once, before the first look-up; imports the modules that register themselves.
    """

    def __init__(self, kind: str, discover: Callable[[], None] = lambda: None) -> None:
        self.kind = kind
        self._discover: Callable[[], None] | None = discover
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Registers ``entry``. Raises ConfigError where the name is taken by another entry."""
        if name in self._entries and self._entries[name] is not entry:
            raise ConfigError(
                f"two {self.kind}s are called '{name}'",
                "A name must lead to one entry",
                f"Rename one of them; taken are: {', '.join(sorted(self._entries))}.",
            )
        self._entries[name] = entry
        return entry

    def register(self, name: str) -> Callable[[S], S]:
        """Decorator form of :meth:`add`; what is decorated keeps its own type."""

        def add(entry: S) -> S:
            self.add(name, cast(T, entry))
            return entry

        return add

    def get(self, name: str) -> T:
        """Returns the entry. Raises UnknownNameError, with a suggestion, where there is none."""
        entries = self._all()
        if name not in entries:
            raise UnknownNameError(
                f"unknown {self.kind} '{name}'.{suggestion(name, list(entries))}",
                f"Known are: {', '.join(sorted(entries)) or 'none'}",
                f"Use one of these names for {self.kind}.",
            )
        return entries[name]

    def __contains__(self, name: str) -> bool:
        return name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._all()))

    def _all(self) -> dict[str, T]:
        if self._discover is not None:
            discover, self._discover = self._discover, None
            discover()
        return self._entries
