"""The verb `isograd resume`, of a run or a study."""

import argparse

from isograd.system.arguments import Parser, count, folder
from isograd.system.console import wide_console

HELP = "go on with a run, from its newest checkpoint, or with a study"


def add_arguments(parser: Parser) -> None:
    """Adds the verb's arguments to its parser."""
    parser.add_argument("folder", type=folder, help="of the run or the study, as it was printed")
    parser.add_overrides()
    parser.add_argument("--extend", type=count, default=0, metavar="N", help="of a study: try N more configurations")


def run(options: argparse.Namespace) -> int:
    """Goes on with whichever the folder holds."""
    from isograd.tune.request import is_study

    if options.extend or is_study(options.folder):
        from isograd.cli.tune import exit_status, resume_search

        return exit_status(resume_search(options.folder, options.extend, wide_console(), options.overrides))
    from isograd.display.run import train
    from isograd.run.experiment import prepare_resumed

    train(prepare_resumed(options.folder, options.overrides), wide_console())
    return 0
