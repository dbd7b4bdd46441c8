"""The command line: ``isograd VERB [OPTION=VALUE ...]``."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from isograd.errors import IsogradError
from isograd.report.console import wide_console


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a verb. Returns the exit status: 0, or 2 for an error that was explained, 130 when interrupted."""
    parser = _parser()
    options, overrides = parser.parse_known_args(arguments)
    overrides = [*getattr(options, "overrides", []), *overrides]
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return options.verb(options, overrides)
    except IsogradError as error:
        wide_console(stderr=True).print(f"error: {error}", markup=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("isograd", description="Train by supervised local learning, pipelined.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    train = _verb(verbs, "train", _train, "train; with no options, a small ResNet on scanned digits")
    train.add_argument("--config", action="store_true", help="print every option with its value, and stop")
    resume = _verb(verbs, "resume", _resume, "go on from a run folder's newest checkpoint")
    resume.add_argument("folder", type=Path, help="the run folder")
    _verb(verbs, "plan", _plan, "print the partition with its costs, without training")
    prepare = _verb(verbs, "prepare", _prepare, "turn a data set into Parquet files")
    prepare.add_argument("dataset", help="cifar10, cifar100, svhn, stl10, imagenet or imagefolder")
    prepare.add_argument("--root", type=Path, required=True, help="where the data set's own files are, or go to")
    prepare.add_argument("--output", type=Path, required=True, help="folder for the Parquet files")
    prepare.add_argument("--download", action="store_true", help="let torchvision download the data set into ROOT")
    bench = _verb(verbs, "bench", _bench, "measure")
    bench.add_argument("name", help="pipeline or overhead")
    bench.add_argument("--json", type=Path, help="write the rows to this file as well")
    bench.add_argument("--quick", action="store_true", help="a minute's version")
    return parser


def _verb(verbs: "argparse._SubParsersAction", name: str, run: object, text: str) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text)
    parser.add_argument("overrides", nargs="*", metavar="OPTION=VALUE") if name in ("train", "plan") else None
    parser.set_defaults(verb=run)
    return parser


def _train(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    from isograd.config.load import load, to_dict

    config = load(overrides)
    if options.config:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(OmegaConf.create(to_dict(config))))
        return 0
    from isograd.run.experiment import prepare

    return _execute(prepare(config))


def _resume(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    from isograd.run.experiment import prepare_resumed

    return _execute(prepare_resumed(options.folder, overrides))


def _execute(prepared: "object") -> int:
    from isograd.report.summary import heading, summary
    from isograd.run.experiment import Prepared, execute

    assert isinstance(prepared, Prepared)
    console = wide_console()
    console.print(heading(prepared))
    result = execute(prepared, console)
    console.print(summary(result, prepared.folder.path))
    return 0


def _plan(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    from isograd.config.load import load
    from isograd.executor.blueprint import Blueprint
    from isograd.report.plan import plan

    wide_console().print(plan(Blueprint(load(overrides))))
    return 0


def _prepare(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    from isograd.data.prepare import prepare

    path = prepare(options.dataset, options.root, options.output, download=options.download)
    print(f"prepared {path}")
    return 0


def _bench(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    from isograd.executor.loopback import prefer_loopback

    prefer_loopback()
    from isograd.bench.bench import run

    run(options.name, quick=options.quick, json_path=options.json, overrides=overrides)
    return 0


def _terminate(number: int, frame: FrameType | None) -> None:
    """Turns SIGTERM into an exception, so that actors and placement groups are released."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
