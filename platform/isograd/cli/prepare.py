"""The verb `isograd prepare`."""

import argparse
from collections.abc import Iterable

from isograd.system.arguments import Parser, folder

HELP = "turn a data set into Parquet files"


def add_arguments(parser: Parser) -> None:
    """Adds the verb's arguments to its parser."""
    parser.add_argument("dataset", metavar="DATASET", help="one of those below")
    parser.add_argument("--root", type=folder, required=True, help="where the data set's own files are, or go to")
    parser.add_argument("--output", type=folder, required=True, help="folder for the Parquet files")
    parser.add_argument("--download", action="store_true", help="let torchvision download the data set into ROOT")
    parser.lists(_list_sources)


def run(options: argparse.Namespace) -> int:
    """Writes the files, and says where they are."""
    from isograd.prepare.conversion import prepare

    path = prepare(options.dataset, options.root, options.output, download=options.download)
    print(f"prepared {path}")
    return 0


def _list_sources() -> dict[str, Iterable[str]]:
    from isograd.prepare.originals import SOURCES

    return {"DATASET": SOURCES}
