"""The verb `isograd plan`."""

import argparse

from isograd.cli.train import list_choices, list_nameable
from isograd.system.arguments import Parser
from isograd.system.console import say, wide_console

HELP = "print the partition, its costs and forecasts, without training"


def add_arguments(parser: Parser) -> None:
    """Adds the verb's arguments to its parser."""
    parser.add_overrides(list_nameable)
    parser.add_argument("--counted", action="store_true", help="only what can be counted: no timing, no forecast")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured earlier")
    parser.lists(list_choices)


def run(options: argparse.Namespace) -> int:
    """Counts, and measures unless told not to."""
    from isograd.config.load import load
    from isograd.display.plan import render_counted, render_plan
    from isograd.engine.blueprint import Blueprint
    from isograd.planning.cache import forget
    from isograd.planning.plan import make_plan

    config = load(options.overrides)
    if options.fresh:
        forget()
    say(wide_console(), render_counted(Blueprint(config)) if options.counted else render_plan(make_plan(config)))
    return 0
