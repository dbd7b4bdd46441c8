"""A user's own files beside a script and on PYTHONPATH, called like parts of ours, are in nobody's way."""

from pathlib import Path

import pytest

from tests.commands import called

# Each would end the process that imports it in place of ours; `dgl` and `torchvision.py`-like names stand for plug-ins.
NAMES = ("methods", "search_spaces", "tests", "examples", "config", "data", "models", "tasks", "local", "bench", "tune")
PLUG_INS = ("dgl", "man", "e2e", "repl", "resnet_cifar", "classification", "cluster", "executor", "report", "run")

SCRIPT = """
import sys
import methods_of_mine
from isograd.config.load import load
from isograd.local.method import METHODS
from isograd.run.experiment import run

if __name__ == "__main__":
    common = ["model.width=4", "train.max_steps=2", "executor.device=cpu", *sys.argv[1:]]
    executors = {"sequential": [], "pipelined": ["executor.channel=store"]}
    found = [run(load([f"executor={name}", f"run_name={name}", *own, *common])) for name, own in executors.items()]
    assert found[0].module_scores == found[1].module_scores
    assert "dgl" in METHODS and METHODS.get("dgl").__module__ == "isograd.methods.dgl"
    print("same")
"""


@pytest.fixture(params=["packages", pytest.param("files", marks=pytest.mark.long)])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    for name in (*NAMES, *PLUG_INS):
        path = tmp_path / f"{name}.py" if request.param == "files" else tmp_path / name / "__init__.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"raise SystemExit('imported the {name} of the user')\n")
    (tmp_path / "search_spaces").mkdir(exist_ok=True)
    (tmp_path / "search_spaces" / "dgl.yaml").write_text("parameters: {}\n")
    (tmp_path / "methods_of_mine.py").write_text("")
    (tmp_path / "mine.py").write_text(SCRIPT)
    return tmp_path


@pytest.mark.long
def test_a_script_trains_and_pipelines_beside_them(folder: Path) -> None:
    done = called("mine.py", cwd=folder, PYTHONPATH=str(folder))
    assert done.returncode == 0 and done.stdout.endswith("same\n"), done.stderr


def test_the_commands_run_beside_them(folder: Path) -> None:
    done = called("-m", "isograd", "tune", "dgl", "--config", cwd=folder, PYTHONPATH=str(folder))
    assert done.returncode == 0 and "auxiliary" in done.stdout, done.stderr
    options = ("model.width=4", "train.max_steps=1", "executor=sequential", "executor.device=cpu")
    done = called("-m", "isograd", "train", *options, cwd=folder, PYTHONPATH=str(folder))
    assert done.returncode == 0, done.stderr
