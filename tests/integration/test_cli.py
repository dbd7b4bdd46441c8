"""The command line: the main job as a new user runs it, and every bad input with its explanation."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from isograd.cli.main import main
from isograd.config.load import load
from isograd.run import checkpoint
from isograd.run.stored_record import read_record
from tests.processes import HUNG_S, wait_until

QUICK = ("model.width=8", "train.epochs=2", "executor.device=cpu")


@pytest.mark.long
def test_the_main_job_learns_digits_on_a_ray_of_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "isograd", "train", "run_name=main"],
        cwd=tmp_path,
        env={**os.environ, "RAY_ADDRESS": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "main"
    record = read_record(folder)
    assert record.split == "test" and record.final is not None and record.final <= 0.025
    assert len(record.module_scores) == 4 and len(record.stages) == 2
    for said in ("epoch  15/15", "samples/s", "left", "utilisation", "queue wait", "peak memory", str(folder)):
        assert said in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoints",
        "config.yaml",
        "events.jsonl",
        "provenance.json",
        "result.json",
    ]
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["seed"] == 0 and provenance["packages"]["torch"] and provenance["hardware"]
    stage = record.stages[0]
    assert stage["sent_bytes"] > 0 and 0 < stage["utilisation"] <= 1 and stage["peak_bytes"] > 2**20
    kinds = {json.loads(line)["event"] for line in (folder / "events.jsonl").read_text().splitlines()}
    assert kinds == {"Progress", "EpochRecord", "Snapshot", "ReportSoFar", "StageReport"}


def parquet(folder: Path, labels: list[int], **columns: object) -> None:
    """Writes train and test files; images are not decodable unless given."""
    folder.mkdir(parents=True, exist_ok=True)
    image = columns.get("image", [{"bytes": b"not an image", "path": None}] * len(labels))
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = {"image": pa.array(image, image_type), "label": pa.array(labels, pa.int64())}
    table = {name: column for name, column in table.items() if name != columns.get("without")}
    for split in ("train", "test"):
        pq.write_table(pa.table(table), folder / f"{split}-00000-of-00001.parquet")


BAD = {
    "method=dlg": "Did you mean 'dgl'",
    "model=resnet33": "Did you mean 'resnet32'",
    "data=cifra10": "Did you mean 'cifar10'",
    "data=image_folder": "Use `isograd prepare image_folder --root ROOT --output FOLDER`",
    "data.path=elsewhere": "data=parquet",
    "data=parquet data.image_shape=[8,8,1]": "Use data.image_shape=[1,8,8]",
    "data.mean=[127]": "each at least 0 and at most 1",
    "data.std=[60]": "each more than 0 and at most 1",
    "data=parquet data.resize=40": "data.resize=40 is not used with data.crop=exact",
    "optimizer.lr=inf": "at least 0 and at most 1e+30, and finite",
    "train.epoch=3": "Did you mean 'train.epochs'",
    "partition.num_modules=40": "it has 11 units",
    "executor.num_stages=5": "cannot spread 4 local modules over 5 stages",
    "executor.num_stages=0": "Each stage hosts at least one",
    "executor.device=cuda": "0 GPUs",
    "executor.queue_depth=0": "executor.queue_depth=0 is out of range",
    "executor.device=tpu": "auto or cpu or cuda",
    "executor.channel=pigeon": "auto or store or direct or collective",
    "train.epochs=1 lr_schedule.warmup_epochs=0": "the learning rate is 0 in every epoch",
    "train.epochs=0": "It has to be at least 1",
    "train.evaluate_every=0": "train.evaluate_every=0 is out of range",
    "data.batch_size=0": "data.batch_size=0 is out of range",
    "data=parquet data.image_shape=[8,8]": "Use data.image_shape=[3,8,8]",
    "data.mean=[0.1,0.2]": "one number a channel, of pixels in [0, 1]: 1 of them",
    "data.std=[0]": "more than 0",
    "data.padding=9 data.padding_mode=reflect": "cannot be reflected in images of 8 pixels",
    "data.num_classes=5": "there is no option 'data.num_classes'",
    "data.loading=stream": "there is no option 'data.loading'",
    "data.image_shape=[4,8,8]": "there is no option 'data.image_shape'",
    "data.valid=1": "data.valid=1 is out of range",
    "data.valid=0.001": "leaves class 0 empty: 0 of its",
    "data.batch_size=1": "the last batch of an epoch has 1 sample",
    "optimizer.lr=nan": "optimizer.lr=nan is out of range",
    "run_name=../x": "without slashes",
    "run_name=' '": "cannot be the name of a folder",
    "partition.ends=[layer1.0]": "It is an option of partition=balanced and partition=explicit",
    "partition=explicit": "has no cuts for 4 local modules",
    "seed=abc": "could not be converted to Integer",
    "data.batch_size=359": "the last batch of an epoch has 1 sample",
    "model.drop_rate=1.5": "at most 1",
    "precision.clip_norm=-1": "precision.clip_norm=-1 is out of range",
    "optimizer.lr=-1": "optimizer.lr=-1 is out of range",
    "optimizer.momentum=0": "Nesterov momentum requires a momentum",
    "optimizer=adamw optimizer.betas=[0.9]": "the optimizer cannot be built",
    "method=infopro method.lambda1=[1]": "has 1 values",
    "checkpoint.keep=0": "checkpoint.keep=0 is out of range",
    "data=cifar10 data.path=nowhere": "nowhere",
    "partition=explicit partition.ends=[layer2.0,layer1.0]": "Ends must increase",
    "partition=explicit partition.ends=[layer9.0]": "no unit 'layer9.0'",
    "partition=published partition.num_modules=5": "known are",
    "method=e2e partition.num_modules=2": "at most 1",
    "method=dgl method.auxiliary=mpl": "Did you mean 'mlp'",
    "method=infopro method.head=9c1f": "names no InfoPro head",
    "method=infopro method.loss=hinge": "softmax or contrast",
    "precision.dtype=float8": "precision.dtype='float8' is not supported",
    "data=parquet data.loading=disk": "memory or stream",
    "partition=published partition.table=foo": "tables are",
    "executor.speeds=[1,nan]": "the speed of each stage's device: 2 of them",
    "executor.speeds=[0,1]": "executor.speeds=[0.0, 1.0] does not fit",
    "executor.speeds=[1,2,3] executor.num_stages=2": "the speed of each stage's device: 2 of them",
    "executor.speeds=[1,1,1,1,1]": "cannot spread 4 local modules over 5 stages",
    "partition=balanced partition.num_modules=3 executor.num_stages=4": "cannot cut 11 units into 3 local modules on 4",
    "partition=balanced method=repl executor.num_stages=2": "cannot spread 1 local modules over 2 stages",
    "folder=/proc/isograd": "cannot write to /proc/isograd",
}


@pytest.mark.parametrize("overrides", BAD)
def test_bad_input_is_explained_before_anything_is_written(
    ray_session: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: str
) -> None:
    folder = [] if "folder=" in overrides else [f"folder={tmp_path / 'runs'}"]
    assert main(["train", *QUICK, *folder, *shlex.split(overrides)]) == 2
    said = capsys.readouterr().err
    assert BAD[overrides] in said
    assert said.startswith("error: ") and said.count(". ") >= 2 and "Use " in said
    assert not (tmp_path / "runs").exists()


def test_the_data_sets_that_read_a_path_are_named_and_take_it_as_typed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", "data.path=elsewhere"]) == 2
    owners = re.findall(r"data=\w+", capsys.readouterr().err)
    assert {"data=parquet", "data=cifar10", "data=text"} <= set(owners) and "data=digits" not in owners
    for owner in owners:
        assert load([owner, "data.path=elsewhere"]).data.path == "elsewhere"


CORRUPT = {
    "missing column": (dict(labels=[0, 1], without="label"), "label"),
    "corrupt image": (dict(labels=[*range(10)]), "row 0"),
    "label out of range": (dict(labels=[0, 10]), "10"),
    "empty split": (dict(labels=[]), "has 0 rows"),
}


@pytest.mark.parametrize("case", CORRUPT)
def test_corrupt_data_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    options, said = CORRUPT[case]
    parquet(tmp_path / "data", **options)
    overrides = ["data=parquet", f"data.path={tmp_path / 'data'}", f"folder={tmp_path / 'runs'}"]
    assert main(["train", "executor=sequential", *overrides]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_run_that_diverges_keeps_its_last_good_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wild = ("lr_schedule=steps", "lr_schedule.every_epochs=1", "lr_schedule.factor=1e36", "optimizer.lr=0.01")
    options = (f"folder={tmp_path}", "run_name=wild", "executor=sequential", *wild)
    assert main(["train", *QUICK, *options]) == 2
    said = capsys.readouterr().err
    assert "the loss of the local module that ends in layer1.1 is" in said and "at step 2" in said
    assert [path.name for path in checkpoint.saved(tmp_path / "wild" / "checkpoints")] == ["step-00000023"]
    assert not (tmp_path / "wild" / "result.json").exists()


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = (f"folder={tmp_path}", "run_name=small", "executor=sequential", "train.max_steps=2")
    assert main(["train", *QUICK, *options]) == 0
    for override in ("model.width=16", "partition.num_modules=3", "optimizer.lr=0.3"):
        assert main(["resume", str(tmp_path / "small"), override]) == 2
        assert "was written with configuration" in capsys.readouterr().err


def test_what_is_no_run_folder_cannot_be_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", str(tmp_path)]) == 2
    assert "is the folder of no run and no study" in capsys.readouterr().err
    assert main(["resume", str(tmp_path / "nowhere"), "--extend", "3"]) == 2
    assert "cannot be read as a study" in capsys.readouterr().err


def test_a_complete_run_is_not_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = (f"folder={tmp_path}", "run_name=whole", "executor=sequential", "train.max_steps=2")
    assert main(["train", *QUICK, *options]) == 0
    before = (tmp_path / "whole" / "result.json").read_text()
    assert main(["resume", str(tmp_path / "whole")]) == 2
    assert "is complete: 2 of 2 steps are trained" in capsys.readouterr().err
    assert (tmp_path / "whole" / "result.json").read_text() == before


def test_a_damaged_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = (f"folder={tmp_path}", "run_name=torn", "executor=sequential", "train.max_steps=2")
    assert main(["train", *QUICK, *options]) == 0
    newest = checkpoint.newest(tmp_path / "torn" / "checkpoints") / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:1000])
    assert main(["resume", str(tmp_path / "torn")]) == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.long
def test_an_interrupted_run_leaves_no_process(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "isograd",
        "train",
        "train.epochs=500",
        f"folder={tmp_path}",
        "run_name=long",
    ]
    run = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    events = tmp_path / "long" / "events.jsonl"
    wait_until(lambda: events.exists() and "Progress" in events.read_text())
    run.send_signal(signal.SIGTERM)
    assert run.wait(timeout=HUNG_S) == 130
    assert wait_until(lambda: not processes_of_session(run.pid))


def processes_of_session(session: int) -> list[str]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(status.parent.name)
    return found


def test_the_plan_shows_costs_without_training(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ("model=resnet32", "data=cifar10", "partition=published", "partition.num_modules=16")
    assert main(["plan", "--counted", "method=infopro", *overrides]) == 0
    shown = capsys.readouterr().out
    assert "17 units in 16 local modules" in shown and "466,906 parameters" in shown
    assert "layer3.4 .. head (2)" in shown and "share of cost" in shown


@pytest.mark.long
def test_the_plan_forecasts_all_schedules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "partition=balanced", "partition.num_modules=3", "executor.num_stages=2"]) == 0
    shown = capsys.readouterr().out
    assert "3 local modules (partition=balanced)" in shown
    for schedule in ("sequential", "PPLL", "1f1b, M=4", "gpipe, M=16", "interleaved, M=8", "zero_bubble, M=4"):
        assert f"\n{schedule} " in shown
    assert "Link: " in shown and "Stages share this machine's cores" in shown


def test_every_option_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", "method=infopro"]) == 0
    assert "queue_depth: 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("growth", "--picture", "growth.png"), "isograd bench growth has no picture"),
        (("pipeline", "--picture", "race.jpeg"), "names no format"),
        (("pipeline", "--json", "nowhere/race.json"), "--json nowhere/race.json cannot be written"),
    ],
)
def test_a_benchmark_checks_its_files_first(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_what_is_not_decided_cannot_be_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--counted", "partition=balanced"]) == 2
    assert "Leave out --counted" in capsys.readouterr().err
