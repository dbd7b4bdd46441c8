"""Name -> plug-in. One registry a kind (method, model, task, data set, partition rule); it feeds configuration,
command line, search and the conformance tests."""

import difflib
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar, cast

from isograd.errors import ConfigError, UnknownNameError


def suggestion(name: str, known: list[str]) -> str:
    """Returns ``" Did you mean 'x'?"`` for a misspelt ``name``, or an empty string.

    Of dotted names one that ends so comes first: ``optimizer.lr`` for ``lr``.
    """
    ending = [other for other in known if other.endswith(f".{name}")]
    close = ending[:1] or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


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
