"""The command line: ``isograd VERB [OPTION=VALUE ...]``."""

import argparse
import io
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from isograd.config.items import refuse_flag
from isograd.options import check_text
from isograd.system.arguments import Parser, count, folder, refuse_before_verb
from isograd.system.console import say, wide_console
from isograd.system.exit_status import name_faults, open_streams, status_of
from isograd.system.paths import check_working_folder
from isograd.system.version import version_line

_OPTIONS = (
    "Options are OPTION=VALUE, of several for one option the last one counts; `isograd train --config` shows all."
)


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
    options = _parsed(arguments)
    return options.verb(options)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Parses; overrides may stand before and after flags, which argparse alone does not allow.

    Raises:
        ConfigError: There is no such verb or flag.
    """
    parser, verbs = _parser()
    refuse_before_verb(arguments, verbs)
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


def _parser() -> tuple[Parser, list[str]]:
    """Returns the parser, and the names of the verbs."""
    parser = Parser("isograd", description="Train by supervised local learning, pipelined.")
    parser.add_argument("--version", action="version", version=version_line(), help="print versions, and stop")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    training = "train; with no options, a small ResNet on scanned digits"
    train = _verb(verbs, "train", _train, training, overridden=True, nameable=_nameable)
    train.add_argument("--config", action="store_true", help="print every option with its value, and stop")
    train.add_argument(
        "--from-trial",
        metavar="STUDY/TRIAL",
        help="run a study's trial again; TRIAL may be `best`, and a study's folder alone means that",
    )
    train.lists(_choices)
    resume = _verb(
        verbs,
        "resume",
        _resume,
        "go on with a run, from its newest checkpoint, or with a study",
        overridden=True,
        first={"dest": "folder", "type": folder, "help": "of the run or the study, as it was printed"},
    )
    resume.add_argument("--extend", type=count, default=0, metavar="N", help="of a study: try N more configurations")
    tune = _verb(
        verbs,
        "tune",
        _tune,
        "search what a method has to choose",
        overridden=True,
        first={"dest": "space", "metavar": "SPACE", "help": "name of a search space, or path of a YAML file"},
    )
    tune.add_argument("--config", action="store_true", help="print the sweep's options and the space, and stop")
    tune.epilog = (
        "SPACE is the name of a search space, or the path of a YAML file; OPTION is tune.NAME of the sweep, "
        "space.PARAMETER.KEY of the space, or one of every run, which is then not searched."
    )
    tune.lists(_spaces)
    report = _verb(verbs, "report", _report, "write a study's report and pictures again, from its table alone")
    report.add_argument("folder", type=folder, help="the study's, as `isograd tune` printed it")
    planning = "print the partition, its costs and forecasts, without training"
    plan = _verb(verbs, "plan", _plan, planning, overridden=True, nameable=_nameable)
    plan.add_argument("--counted", action="store_true", help="only what can be counted: no timing, no forecast")
    plan.add_argument("--fresh", action="store_true", help="forget what was measured earlier")
    plan.lists(_choices)
    prepare = _verb(verbs, "prepare", _prepare, "turn a data set into Parquet files")
    prepare.add_argument("dataset", metavar="DATASET", help="one of those below")
    prepare.add_argument("--root", type=folder, required=True, help="where the data set's own files are, or go to")
    prepare.add_argument("--output", type=folder, required=True, help="folder for the Parquet files")
    prepare.add_argument("--download", action="store_true", help="let torchvision download the data set into ROOT")
    prepare.lists(_sources)
    bench = _verb(
        verbs,
        "bench",
        _bench,
        "measure; `isograd bench --help` says what",
        overridden=True,
        first={"dest": "name", "metavar": "NAME", "help": "one of those below"},
    )
    bench.add_argument("--json", type=folder, help="write the rows to this file as well")
    bench.add_argument("--picture", type=folder, help="draw the periods to this file as well (pipeline)")
    bench.add_argument("--quick", action="store_true", help="a minute's version")
    bench.lists(_benches)
    compare = _verb(verbs, "compare", _compare, "compare methods over seeds, or finished runs", overridden=True)
    compare.epilog = (
        "An item is a method's name, 'LABEL: OPTION=VALUE ...' (quoted within as in a shell), OPTION=VALUE for all, "
        "the folder of a finished run, or a study's trial, STUDY/TRIAL; TRIAL may be `best`, and a study's folder "
        "alone means that."
    )
    compare.add_argument("--seeds", help="of every entry, with commas between them; default 0,1,2")
    compare.add_argument("--output", type=folder, required=True, help="folder for tables, picture and runs")
    compare.add_argument("--rule", choices=("epochs", "device-seconds"), help="what all entries get the same amount of")
    compare.add_argument("--device-seconds", type=float, metavar="N", help="budget of a run; default: the baseline's")
    compare.add_argument("--baseline", metavar="LABEL", help="what others are measured against; default: the first")
    return parser, list(verbs.choices)


def _verb(
    verbs: "argparse._SubParsersAction[Parser]",
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
    *,
    overridden: bool = False,
    nameable: Callable[[], Collection[str]] = tuple,
    first: Mapping[str, Any] | None = None,
) -> Parser:
    """Adds a verb.

    Args:
        verbs: Where it is added.
        name: As it is typed.
        run: Does it, and returns the exit status.
        text: What it does.
        overridden: Whether it takes options of a run.
        nameable: Returns those that may be recommended, whichever there are.
        first: An argument before the options.
    """
    parser = verbs.add_parser(name, help=text, description=text)
    parser.set_defaults(verb=run, parser=parser, nameable=nameable)
    if first is not None:
        parser.add_argument(**first)
    if overridden:
        parser.add_argument("overrides", nargs="*", default=[], metavar="OPTION=VALUE", help=_OPTIONS)
    return parser


def _nameable() -> list[str]:
    from isograd.config.load import groups, nameable

    return nameable(groups())


def _choices() -> dict[str, Iterable[str]]:
    from isograd.config.load import experiments, groups

    return {**groups(), "experiment": experiments()}


def _spaces() -> dict[str, Iterable[str]]:
    from isograd.tune.space_file import known_spaces

    return {"SPACE": known_spaces()}


def _sources() -> dict[str, Iterable[str]]:
    from isograd.data.originals import SOURCES

    return {"DATASET": SOURCES}


def _benches() -> dict[str, Iterable[str]]:
    from isograd.bench.bench import BENCHES

    return {"NAME": BENCHES}


def _train(options: argparse.Namespace) -> int:
    from isograd.config.load import load
    from isograd.engine.config import to_dict

    if options.from_trial is not None:
        from isograd.tune.rerun import rerun

        return rerun(options.from_trial, options.overrides, wide_console())
    config = load(options.overrides)
    if options.config:
        from omegaconf import OmegaConf

        from isograd.engine.check import check

        check(config)
        print(OmegaConf.to_yaml(OmegaConf.create(to_dict(config))))
        return 0
    from isograd.display.shown import train
    from isograd.run.experiment import prepare

    train(prepare(config), wide_console())
    return 0


def _resume(options: argparse.Namespace) -> int:
    from isograd.tune.request import is_study

    if options.extend or is_study(options.folder):
        return _resume_study(options)
    from isograd.display.shown import train
    from isograd.run.experiment import prepare_resumed

    train(prepare_resumed(options.folder, options.overrides), wide_console())
    return 0


def _resume_study(options: argparse.Namespace) -> int:
    from isograd.cli.tune import exit_status, search_on

    return exit_status(search_on(options.folder, options.extend, wide_console(), options.overrides))


def _tune(options: argparse.Namespace) -> int:
    if options.config:
        from isograd.tune.request import parse

        print(parse(options.space, options.overrides).to_yaml())
        return 0
    from isograd.cli.tune import exit_status, search

    return exit_status(search(options.space, options.overrides, wide_console()))


def _report(options: argparse.Namespace) -> int:
    from isograd.studies.study_report import write_report

    say(wide_console(), f"report             {write_report(options.folder)}")
    return 0


def _plan(options: argparse.Namespace) -> int:
    from isograd.config.load import load
    from isograd.display.plan import counted, planned
    from isograd.engine.blueprint import Blueprint
    from isograd.planning.cache import forget
    from isograd.planning.plan import make_plan

    config = load(options.overrides)
    if options.fresh:
        forget()
    say(wide_console(), counted(Blueprint(config)) if options.counted else planned(make_plan(config)))
    return 0


def _prepare(options: argparse.Namespace) -> int:
    from isograd.data.prepare import prepare

    path = prepare(options.dataset, options.root, options.output, download=options.download)
    print(f"prepared {path}")
    return 0


def _bench(options: argparse.Namespace) -> int:
    from isograd.cluster.loopback import prefer_loopback

    prefer_loopback()
    from isograd.bench.bench import run

    run(options.name, quick=options.quick, json_path=options.json, picture=options.picture, overrides=options.overrides)
    return 0


def _compare(options: argparse.Namespace) -> int:
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


if __name__ == "__main__":
    sys.exit(main())
