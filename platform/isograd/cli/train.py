"""The verb `isograd train`."""

import argparse
from collections.abc import Iterable

from isograd.system.arguments import Parser
from isograd.system.console import wide_console

HELP = "train; with no options, a small ResNet on scanned digits"


def add_arguments(parser: Parser) -> None:
    """Adds the verb's arguments to its parser."""
    parser.add_overrides(list_nameable)
    parser.add_argument("--config", action="store_true", help="print every option with its value, and stop")
    parser.add_argument(
        "--from-trial",
        metavar="STUDY/TRIAL",
        help="run a study's trial again; TRIAL may be `best`, and a study's folder alone means that",
    )
    parser.lists(list_choices)


def run(options: argparse.Namespace) -> int:
    """Trains a configuration, or a study's trial again, or only prints the configuration."""
    from isograd.config.load import load

    if options.from_trial is not None:
        from isograd.compare.rerun import rerun

        return rerun(options.from_trial, options.overrides, wide_console())
    config = load(options.overrides)
    if options.config:
        from omegaconf import OmegaConf

        from isograd.engine.check import check
        from isograd.engine.config import to_dict

        check(config)
        print(OmegaConf.to_yaml(OmegaConf.create(to_dict(config))))
        return 0
    from isograd.display.run import train
    from isograd.run.experiment import prepare

    train(prepare(config), wide_console())
    return 0


def list_nameable() -> list[str]:
    """Returns the options that may be recommended, whatever a run's choices are."""
    from isograd.config.load import groups, nameable

    return nameable(groups())


def list_choices() -> dict[str, Iterable[str]]:
    """Returns what each group of the configuration can be, for the help."""
    from isograd.config.load import experiments, groups

    return {**groups(), "experiment": experiments()}
