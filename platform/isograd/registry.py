"""Name -> plug-in. One registry a kind (method, model, task, data, executor, partition rule); it feeds configuration,
command line, search and the conformance tests.

Plug-ins are found in one way for all kinds: every file of the kind's package, and the entry points ``isograd.KIND`` of
other packages. The file that declares a registry never imports its plug-ins by name.
"""

import difflib
import importlib
import logging
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, cast

from isograd.errors import ConfigError, UnknownNameError

_LOG = logging.getLogger(__name__)


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
        package: Whose files register entries; all of them are imported before the first look-up.
        group: Of the entry points by which other packages add entries.
        folders: Whether the files in the package's folders register entries as well. Without, of a folder only the
            package itself is imported, and its files may need what takes long to import or is not always there.

    Note:
        A plug-in that cannot be imported says so itself, in a warning and wherever an unknown name is asked for, and
        hides no other.
    """

    def __init__(
        self, kind: str, package: str | None = None, group: str | None = None, *, folders: bool = True
    ) -> None:
        self.kind = kind
        self._package, self._group, self._folders = package, group, folders
        self._is_complete = package is None and group is None
        self._entries: dict[str, T] = {}
        self._failed: dict[str, str] = {}

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
            failed = "".join(f"; {plugin} cannot be imported ({why})" for plugin, why in self._failed.items())
            raise UnknownNameError(
                f"unknown {self.kind} '{name}'.{suggestion(name, list(entries))}",
                f"Known are: {', '.join(sorted(entries)) or 'none'}{failed}",
                f"Use one of these names for {self.kind}.",
            )
        return entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def __len__(self) -> int:
        return len(self._all())

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._all()))

    def _all(self) -> dict[str, T]:
        if not self._is_complete:
            self._is_complete = True  # first, for a plug-in may look another one up while it is imported
            if self._package:
                self._load_files(self._package)
            for point in entry_points(group=self._group) if self._group else ():
                self._load(point.value, lambda point=point: self.add(point.name, point.load()))
        return self._entries

    def _load_files(self, package: str) -> None:
        """Imports the files of a package, and those of its folders or only the folders."""
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            name = f"{package}.{module.name}"
            self._load(name, lambda name=name: importlib.import_module(name))
            if module.ispkg and self._folders and name not in self._failed:
                self._load_files(name)

    def _load(self, plugin: str, load: Callable[[], Any]) -> None:
        try:
            load()
        except Exception as error:
            self._failed[plugin] = f"{type(error).__name__}: {error}"
            _LOG.warning("the %s plug-in %s cannot be imported and is left out: %s", self.kind, plugin, error)
