"""What a new user types wrongly: explained in three parts or by argparse's usage, never a traceback or swallowed."""

import os
import re
import signal
from pathlib import Path

import pytest

from isograd.bench.bench import BENCHES
from isograd.cli.main import main
from isograd.config.load import experiments, groups
from isograd.prepare.originals import SOURCES
from isograd.tune.space_file import known_spaces
from tests.commands import called

EXPLAINED = {
    ("trian",): "unknown verb 'trian'. Did you mean 'train'?",
    ("seed=3", "train"): "'seed=3' stands before the verb, train",
    ("--config", "train"): "Use isograd train --config",
    ("-m", "train"): "'-m' stands before the verb",
    ("seed=3",): "there is no verb before 'seed=3'",
    ("train", "seed=0,1"): "Use isograd compare METHOD --seeds 0,1 --output DIR",
    ("train", "seed=range(0,3)"): "Use isograd compare METHOD --seeds 0,1,2 --output DIR",
    ("train", "seed=choice(4,5)"): "--seeds 4,5",
    ("train", "seed=glob(*)"): "--seeds 0,1,2",
    ("train", "method=dgl,e2e"): "Use isograd compare dgl e2e --output DIR",
    ("train", "optimizer.lr=0.1,0.2"): "isograd compare '0.1: optimizer.lr=0.1' '0.2: optimizer.lr=0.2' --output DIR",
    ("train", "executor.speeds=1,2"): "Use executor.speeds=[1,2]",
    ("train", "partition=explicit", "partition.ends=a,b"): "Use partition.ends=[a,b]",
    (
        "train",
        "-m",
        "seed=0,1",
    ): "isograd compare METHOD --seeds 0,1,2 --output DIR for several seeds, and isograd tune",
    ("train", "seed=0,1", "--multirun"): "and isograd tune SPACE for a search",
    ("tune", "dgl", "seed=0,1"): "Use tune.seeds=[0,1,2]",
    ("tune", "dgl", "tune.seeds=0,1"): "Use tune.seeds=[0,1,2]",
    ("tune", "dgl", "space.method.auxiliary.values=linear,mlp"): "Use space.method.auxiliary.values=[linear,mlp]",
    ("tune", "dgl", "+tune.num_trials=3"): "Use tune.num_trials=3",
    ("tune", "dgl", "tune.num_trials"): "'tune.num_trials' is not an override",
    ("tune", "dgl", "tune.num_trials="): "'tune.num_trials=' has no value",
    ("tune", "dgl", "tune.sampler=null"): "tune.sampler='null' is not known",
    ("tune", "dgl", "space.method.auxiliary.values="): "has no value",
    ("tune", "dgl", "~space.method.auxilary"): "space.method.auxilary is not there",
    ("train", "hydra.run.dir=/tmp/x"): "folder=DIR run_name=NAME",
    ("train", "hydra/launcher=joblib"): "cluster.address=HOST:PORT",
    ("train", "hydra.mode=MULTIRUN"): "an option of Hydra's own",
    ("train", "--config-path", "conf"): "experiment=NAME, or OPTION=VALUE",
    ("train", "--config-name=mine"): "experiment=NAME, or OPTION=VALUE",
    ("train", "--cfg", "job"): "isograd train --config",
    ("plan", "--cfg=job"): "isograd train --config",
    ("resume", "/tmp", "-m"): "a flag of Hydra's own",
    ("train", "+seed=3"): "Use seed=3",
    ("train", "++model.width=8"): "Use model.width=8",
    ("train", "~seed"): "Leave seed out for its default",
    ("resume", "/nowhere", "+seed=3"): "is the folder of no run and no study",
    ("train", "seed", "3"): "Use seed=3",
    ("train", "seed", "=", "3"): "Use seed=3.",
    ("train", "seed", "=3"): "Use seed=3.",
    ("train", "seed=", "3"): "Use seed=3, or leave it out",
    ("train", "seed 3"): "Use seed=3.",
    ("train", "seed:3"): "Use seed=3.",
    ("train", "seed: 3"): "Use seed=3.",
    ("train", "optimizer.lr : 0.2"): "Use optimizer.lr=0.2.",
    ("train", "model resnet20"): "Use model=resnet20.",
    ("train", "seed", ":", "3"): "Use seed=3.",
    ("train", "data.mean", "[0.5,", "0.5]", "seed=1"): "Use 'data.mean=[0.5, 0.5]'.",
    ("train", "run_name", "x;y"): "Use 'run_name=x;y'.",
    ("train", "folder", "/tmp/x=y"): "Use folder=/tmp/x=y.",
    ("train", "folder", "seed=3"): "Use folder=VALUE.",
    ("train", "--optimizer.lr", "-1"): "Use optimizer.lr=-1.",
    ("train", "--batch-size", "64"): "Did you mean 'data.batch_size'?",
    ("train", "model", "resnet20"): "Use model=resnet20.",
    ("train", "sed 3"): "is not an override. Did you mean 'seed'?",
    ("tune", "dgl", "tune.num_trials 3"): "Use tune.num_trials=3.",
    ("train", "=3"): "'=3' names no option",
    ("train", " seed=3"): "Use seed=3",
    ("train", "run_name="): "'run_name=' has no value",
    ("train", "seed="): "'seed=' has no value",
    ("train", "model="): "'model=' has no value",
    ("train", "mine.yaml"): "no file of them is read",
    ("train", "--seed", "3"): "Use seed=3.",
    ("train", "--seed=3"): "Use seed=3.",
    ("train", "-seed=3"): "Use seed=3.",
    ("train", "--seed"): "Use seed=VALUE.",
    ("train", "--run-name", "x"): "Use run_name=x.",
    ("train", "--train.epochs=3"): "Use train.epochs=3.",
    ("train", "--sed", "3"): "Use what `isograd VERB --help` shows",
    ("train", "--conf"): "Did you mean '--config'",
    ("train", "-1"): "there is no flag -1",
    ("compare", "dgl", "--seed", "0", "--output", "x"): "Did you mean '--seeds'",
    ("report", "x", "--fast"): "there is no flag --fast",
    ("train", "sed=3"): "Did you mean 'seed'",
    (
        "train",
        "optimizer.learning_rate=0.1",
    ): "'optimizer.learning_rate'. Did you mean 'optimizer.lr'?",
    (
        "train",
        "optimizer.foo=0.1",
    ): "there is no option 'optimizer.foo'. With these choices optimizer has the options optimizer.name, ",
    ("train", "lr=0.1"): "there is no option 'lr'. Did you mean 'optimizer.lr'?",
    ("train", "train=3"): "train is a section",
    ("train", "precision=bfloat16"): "precision.dtype",
    ("train", "data.path.x=3"): "there is no option 'data.path.x'",
    ("train", "train.epochs=é"): "train.epochs=é is not a whole number",
    ("train", "train.epochs=[1"): "train.epochs=[1 is not a whole number",
    ("train", "seed=1e3"): "seed=1e3 is not a whole number",
    ("train", "run_name=\udcff"): "bytes that are no UTF-8",
    ("train", "run_name=a\x00b"): "a character that is no text",
    ("train", "experiment=dgl_cifar"): "Did you mean 'dgl_cifar10'",
    ("prepare", "cifra10", "--root", "x", "--output", "y"): "Did you mean 'cifar10'",
    ("bench", "channel"): "Did you mean 'channels'",
    ("tune", "tune.num_trials=3"): "there is no search space",
    ("compare", "mine: method=dgl 'x", "--output", "x"): "quotes without an end",
    ("compare", "dgl", "run_name=x", "--output", "x"): "Use --output DIR",
    ("train", "--from-trial", "nowhere/3"): "names no trial",
}


@pytest.mark.parametrize("arguments", EXPLAINED, ids=" ".join)
def test_a_mistake_is_explained(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert EXPLAINED[arguments] in said
    assert said.startswith("error: ") and len(re.findall(r"[.?] ", said)) >= 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("resume",),
        ("compare", "dgl"),
        ("compare", "dgl", "--output="),
        ("compare", "dgl", "--output", "x", "--rule", "epoch"),
        ("compare", "dgl", "--output", "x", "--device-seconds", "soon"),
        ("prepare", "cifar10", "--root", "", "--output", "x"),
        ("report", "a", "b"),
        ("resume", "x", "--extend", "-3"),
        ("train", "--config=x"),
    ],
    ids=" ".join,
)
def test_a_missing_argument_is_shown_with_the_usage(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert capsys.readouterr().err.startswith("usage: isograd")


def test_help_lists_what_the_registries_have(capsys: pytest.CaptureFixture[str]) -> None:
    shown = {}
    for verb in ("prepare", "bench", "tune", "train", "plan"):
        with pytest.raises(SystemExit, match="0"):
            main([verb, "--help"])
        shown[verb] = capsys.readouterr().out
    for verb, names in (("prepare", SOURCES), ("bench", BENCHES), ("tune", known_spaces()), ("train", experiments())):
        assert f": {', '.join(names)}\n" in shown[verb]
    for group, choices in groups().items():
        assert f"  {group}: {', '.join(choices)}\n" in shown["train"] and f"  {group}: " in shown["plan"]


@pytest.mark.parametrize("verb", ["train", "resume", "tune", "report", "plan", "prepare", "bench", "compare"])
def test_every_verb_has_a_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([verb, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: isograd {verb}")


def test_no_preset_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", "experiment=null"]) == main(["train", "--config"]) == 0
    first, second = capsys.readouterr().out.split("seed: 0\n")[1:]
    assert first == second


def test_the_last_of_several_values_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", "method=e2e", "seed=1", "method=dgl", "seed=2"]) == 0
    shown = capsys.readouterr().out
    assert "seed: 2\n" in shown and "name: dgl\n" in shown


def test_the_package_is_a_command_and_says_its_version() -> None:
    done = called("-m", "isograd", "--version")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"isograd \S+( \(not installed\))?, torch \S+, ray \S+\n", done.stdout)


def test_what_the_terminal_cannot_show_is_escaped() -> None:
    done = called("-m", "isograd", "train", "method=é", PYTHONIOENCODING="ascii")
    assert done.returncode == 2 and done.stderr.startswith("error: unknown method '\\xe9'. Known are")


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_reason_to_fail(tmp_path: Path, closed: str) -> None:
    quick = ("model.width=4", "train.max_steps=2", "executor=sequential", "executor.device=cpu", "run_name=it")
    done = called("-m", "isograd", "train", *quick, cwd=tmp_path, before=("bash", "-c", f'exec "$0" "$@" {closed}'))
    assert done.returncode == 0 and not done.stdout and "Traceback" not in done.stderr, done.stderr
    assert (tmp_path / "runs" / "it").is_dir()


def test_a_fault_in_native_code_says_where() -> None:
    fault = "import ctypes, isograd.cli.main as cli; cli._run = lambda arguments: ctypes.string_at(0); cli.main([])"
    done = called("-c", fault)
    assert done.returncode == -signal.SIGSEGV and "Segmentation fault" in done.stderr
    assert "ctypes/__init__.py" in done.stderr, done.stderr


@pytest.mark.parametrize("arguments", [("train", "--help"), ("plan",), ("prepare", "svhn")])
def test_a_working_folder_that_is_gone_is_said(arguments: tuple[str, ...]) -> None:
    gone = ("bash", "-c", 'cd "$(mktemp -d)" && rmdir "$PWD" && exec "$0" "$@"')
    done = called("-m", "isograd", *arguments, before=gone)
    assert done.returncode == 2 and done.stderr.startswith("error: the working folder cannot be used"), done.stderr


def test_a_locale_without_utf8_is_what_is_wrong() -> None:
    arguments = ("-m", "isograd", "train", "run_name=\u00e9")
    done = called(*arguments, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 2 and "Set PYTHONUTF8=1" in done.stderr, done.stderr
    done = called("-m", "isograd", "train", os.fsdecode(b"run_name=\xff"))
    assert done.returncode == 2 and "holds bytes that are no UTF-8" in done.stderr, done.stderr


def test_the_command_starts_without_what_it_does_not_need() -> None:
    done = called("-X", "importtime", "-c", "from isograd.cli.main import _parser; _parser()")
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not loaded & {"torch", "ray", "numpy", "pyarrow", "PIL", "isograd.prepare.conversion", "isograd.config.load"}
