"""What CONTRIBUTING.md shows is a package: installed beside this one, it trains, is planned, compared and searched."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from isograd.run.stored_record import read_record
from tests.runs import differences

ROOT = Path(__file__).parents[2]
EVERY_COMBINATION = """
import ray
from isograd.executors.executor import EXECUTORS
from isograd.executors.hosts import Hosts
from isograd.local.method import METHODS
from tests.conformance.combinations import Combination
from tests.runs import differences

ray.init(address="local", num_cpus=4, include_dashboard=False, object_store_memory=2**27, log_to_driver=False)
trained = set()
with Hosts(4) as actors:
    for method in METHODS:
        for executor in EXECUTORS:
            combination = Combination(method, "multilabel", executor)
            refusal = combination.refusal()
            if refusal is not None:
                assert len(refusal.args) == 3 and all(refusal.args), combination
                continue
            state, alone = combination.train(actors), Combination(method, "multilabel", "sequential").train()
            assert state.keys() == alone.keys() and (not combination.is_exact or not differences(state, alone))
            trained.add((method, executor))
assert {("halved", name) for name in ("sequential", "counted", "pipelined")} <= trained
assert {(name, "counted") for name in ("dgl", "e2e", "mlaan")} | {("e2e", "microbatch")} <= trained
"""
OPTIONS = ("task=multilabel", "data=pairs", "model=two_branches", "train.epochs=2", "lr_schedule=cosine")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The package as an installer leaves it: its files, and what says which entry points it has."""
    site = tmp_path_factory.mktemp("site")
    blocks = dict(re.findall(r"```\w+\n# (\S+)\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL))
    for name, text in blocks.items():
        if name.endswith((".py", ".yaml")):
            (site / name).parent.mkdir(exist_ok=True)
            (site / name).write_text(text)
    project = tomllib.loads(blocks["pyproject.toml"])["project"]
    information = site / "mine-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in points.items()))
    ]
    (information / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT / "platform")])}


def isograd(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "isograd", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "cannot be imported" not in done.stderr
    return done.stdout + done.stderr


def test_the_package_trains(environment: dict[str, str], tmp_path: Path) -> None:
    options = (*OPTIONS, "method=halved", "executor=counted", "executor.every=10", "partition.num_modules=3")
    shown = isograd(environment, "train", *options, f"folder={tmp_path}", "run_name=mine")
    assert "wrong labels" in shown and re.search(r"^20 events until now$", shown, re.MULTILINE)
    assert (tmp_path / "mine" / "result.json").exists()


def test_the_package_is_planned(environment: dict[str, str]) -> None:
    assert "join" in isograd(environment, "plan", "--counted", *OPTIONS, "method=halved", "partition.num_modules=5")


@pytest.mark.long
def test_the_commands_train_pipeline_plan_compare_and_search(environment: dict[str, str], tmp_path: Path) -> None:
    (commands,) = re.findall(r"```sh\n(pairs=.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    (tmp_path / "mine").symlink_to(Path(environment["PYTHONPATH"].split(os.pathsep)[0]) / "mine")
    script = f'set -e; isograd() {{ {sys.executable} -m isograd "$@"; }}\n{commands}'
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    runs = tmp_path / "runs"
    records = {path.parent.name: read_record(path.parent) for path in runs.glob("*/result.json")}
    assert {"sequential", "counted", "pipelined", "microbatch"} < records.keys() and len(records) == 5
    assert all(record.final is not None and record.final < 0.25 for record in records.values()), "all of them learn"
    for name in ("counted", "pipelined"):
        assert records[name].epochs == records["sequential"].epochs
        assert differences(newest_state(runs / name), newest_state(runs / "sequential")) == []
    rows = (tmp_path / "comparisons" / "mine" / "table.md").read_text()
    assert re.findall(r"^\| (halved|dgl|e2e) ", rows, re.MULTILINE) == ["halved", "dgl", "e2e"]
    assert "equal to the study's to the last bit" in done.stdout


def newest_state(run: Path) -> dict[str, Tensor]:
    return load_file(max(run.glob("checkpoints/step-*")) / "state.safetensors")


@pytest.mark.long
def test_every_method_trains_the_package_in_every_executor_or_is_refused(environment: dict[str, str]) -> None:
    paths = {"PYTHONPATH": os.pathsep.join([environment["PYTHONPATH"], str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", EVERY_COMBINATION], env=environment | paths, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_vectors_are_fused_by_a_linear_layer(environment: dict[str, str], tmp_path: Path) -> None:
    options = ("method=glcan", "executor=sequential", "partition=explicit", "partition.ends=[join]")
    isograd(environment, "train", *OPTIONS, *options, f"folder={tmp_path}", "run_name=mine")
