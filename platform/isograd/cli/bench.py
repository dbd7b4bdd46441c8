"""The verb `isograd bench`."""

import argparse
from collections.abc import Iterable

from isograd.system.arguments import Parser, folder

HELP = "measure; `isograd bench --help` says what"


def add_arguments(parser: Parser) -> None:
    """Adds the verb's arguments to its parser."""
    parser.add_argument("name", metavar="NAME", help="one of those below")
    parser.add_overrides()
    parser.add_argument("--json", type=folder, help="write the rows to this file as well")
    parser.add_argument("--picture", type=folder, help="draw the periods to this file as well (pipeline)")
    parser.add_argument("--quick", action="store_true", help="a minute's version")
    parser.lists(_list_benches)


def run(options: argparse.Namespace) -> int:
    """Runs a benchmark, and prints its rows."""
    from isograd.cluster.loopback import prefer_loopback

    prefer_loopback()
    from isograd.bench.bench import run

    run(options.name, quick=options.quick, json_path=options.json, picture=options.picture, overrides=options.overrides)
    return 0


def _list_benches() -> dict[str, Iterable[str]]:
    from isograd.bench.bench import BENCHES

    return {"NAME": BENCHES}
