"""The command line: ``isograd VERB [OPTION=VALUE ...]``. A verb is a file beside this one."""

import argparse
import io
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, cast

from isograd.config.items import refuse_flag
from isograd.options import check_text
from isograd.system.arguments import Parser, refuse_before_verb
from isograd.system.exit_status import name_faults, open_streams, status_of
from isograd.system.paths import check_working_folder
from isograd.system.version import version_line

VERBS = ("train", "resume", "tune", "report", "plan", "prepare", "bench", "compare")


class Verb(Protocol):
    """A module of this package. It imports what its work needs when it works: a mistaken flag is answered at once."""

    HELP: str

    def add_arguments(self, parser: Parser) -> None:
        """Adds the verb's arguments to its parser."""
        ...

    def run(self, options: argparse.Namespace) -> int:
        """Does it, and returns the exit status."""
        ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a verb. Returns the exit status.

    It is 0, or 2 for an error that was explained, 1 for a comparison some of whose runs failed or a search all of whose
    trials did, 130 when interrupted.
    """
    open_streams()
    name_faults()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal's encoding lacks is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    return status_of(lambda: _run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: Sequence[str]) -> int:
    check_text(arguments)
    check_working_folder()
    options = _parse(arguments)
    return options.run(options)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parses; overrides may stand before and after flags, which argparse alone does not allow.

    Raises:
        ConfigError: There is no such verb or flag.
    """
    parser = _parser()
    refuse_before_verb(arguments, VERBS)
    options, rest = parser.parse_known_args(arguments)
    for item in rest:
        if item.startswith("-"):
            following = arguments[list(arguments).index(item) + 1 :]
            refuse_flag(item, following, options.parser.flags, options.nameable)
    if rest and not hasattr(options, "overrides"):
        options.parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    return options


def _parser() -> Parser:
    parser = Parser("isograd", description="Train by supervised local learning, pipelined.")
    parser.add_argument("--version", action="version", version=version_line(), help="print versions, and stop")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for name in VERBS:
        verb = cast(Verb, import_module(f"isograd.cli.{name}"))
        own = verbs.add_parser(name, help=verb.HELP, description=verb.HELP)
        own.set_defaults(run=verb.run, parser=own, nameable=tuple)
        verb.add_arguments(own)
    return parser


if __name__ == "__main__":
    sys.exit(main())
