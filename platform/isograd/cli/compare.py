"""The verb `isograd compare`."""

import argparse

from isograd.system.arguments import Parser, folder
from isograd.system.console import wide_console

HELP = "compare methods over seeds, or finished runs"


def add_arguments(parser: Parser) -> None:
    """Adds the verb's arguments to its parser."""
    parser.add_overrides()
    parser.epilog = (
        "An item is a method's name, 'LABEL: OPTION=VALUE ...' (quoted within as in a shell), OPTION=VALUE for all, "
        "the folder of a finished run, or a study's trial, STUDY/TRIAL; TRIAL may be `best`, and a study's folder "
        "alone means that."
    )
    parser.add_argument("--seeds", help="of every entry, with commas between them; default 0,1,2")
    parser.add_argument("--output", type=folder, required=True, help="folder for tables, picture and runs")
    parser.add_argument("--rule", choices=("epochs", "device-seconds"), help="what all entries get the same amount of")
    parser.add_argument("--device-seconds", type=float, metavar="N", help="budget of a run; default: the baseline's")
    parser.add_argument("--baseline", metavar="LABEL", help="what others are measured against; default: the first")


def run(options: argparse.Namespace) -> int:
    """Compares; the status is 1 where a run failed."""
    from isograd.compare.arguments import parse
    from isograd.compare.compare import compare

    request = parse(
        options.overrides,
        output=options.output,
        seeds=options.seeds,
        rule=options.rule,
        device_s=options.device_seconds,
        baseline=options.baseline,
    )
    return int(compare(request, wide_console()).has_failures)
