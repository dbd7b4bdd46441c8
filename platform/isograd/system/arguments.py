"""Flags and verbs of a command line, by argparse, with lists of what the registries have."""

import argparse
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from isograd.errors import UnknownNameError
from isograd.registry import suggestion
from isograd.system.paths import user_path

Lists = Callable[[], Mapping[str, Iterable[str]]]

_OPTIONS = (
    "Options are OPTION=VALUE, of several for one option the last one counts; `isograd train --config` shows all."
)


class Parser(argparse.ArgumentParser):
    """argparse's, which takes no flag for another one that it begins, and whose help says what the registries have."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **options)
        self._lists: Lists = dict

    @property
    def flags(self) -> list[str]:
        """The names of all flags but those of the help."""
        return [name for action in self._actions for name in action.option_strings if action.dest != "help"]

    def lists(self, found: Lists) -> None:
        """Adds lists to the help: their titles, and the names of each. They are asked for only when it is printed."""
        self._lists = found

    def add_overrides(self, nameable: Callable[[], Collection[str]] = tuple) -> None:
        """Lets the verb take options of a run; ``nameable`` returns those that may be recommended, whichever it is."""
        self.add_argument("overrides", nargs="*", default=[], metavar="OPTION=VALUE", help=_OPTIONS)
        self.set_defaults(nameable=nameable)

    def format_help(self) -> str:
        """Returns the help, with the lists at its end."""
        lines = [f"  {title}: {', '.join(names)}" for title, names in self._lists().items()]
        return "\n".join([super().format_help(), *(["known names:", *lines, ""] if lines else [])])


def folder(text: str) -> Path:
    """Returns a path that was given to a flag. Raises ArgumentTypeError for an empty one: it would be the present."""
    if not text:
        raise argparse.ArgumentTypeError("a path is not empty; . is the present folder")
    return user_path(text)


def count(text: str) -> int:
    """Returns a number from 0 that was given to a flag. Raises ArgumentTypeError for others."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 0")
    return int(text)


def refuse_before_verb(arguments: Sequence[str], verbs: Sequence[str]) -> None:
    """Raises UnknownNameError where a command line does not begin with a verb, nor asks for help or versions."""
    if not arguments or arguments[0] in (*verbs, "-h", "--help", "--version"):
        return
    first, verb = arguments[0], next((item for item in arguments if item in verbs), None)
    if verb is not None:
        raise UnknownNameError(
            f"'{first}' stands before the verb, {verb}",
            "A command begins with its verb; options and flags are the verb's",
            f"Use isograd {verb} {first}, with all that follows.",
        )
    if first.startswith("-") or "=" in first:
        raise UnknownNameError(
            f"there is no verb before '{first}'",
            f"A command begins with one of {', '.join(verbs)}",
            "Use isograd train OPTION=VALUE ..., for example.",
        )
    raise UnknownNameError(
        f"unknown verb '{first}'.{suggestion(first, list(verbs))}",
        f"Known are: {', '.join(verbs)}",
        "Use one of these, or `isograd --help`.",
    )
