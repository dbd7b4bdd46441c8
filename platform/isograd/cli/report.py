"""The verb `isograd report`."""

import argparse

from isograd.system.arguments import Parser, folder
from isograd.system.console import say, wide_console

HELP = "write a study's report and pictures again, from its table alone"


def add_arguments(parser: Parser) -> None:
    """Adds the verb's arguments to its parser."""
    parser.add_argument("folder", type=folder, help="the study's, as `isograd tune` printed it")


def run(options: argparse.Namespace) -> int:
    """Writes the report, and says where it is."""
    from isograd.studies.report import write_report

    say(wide_console(), f"report             {write_report(options.folder)}")
    return 0
