"""Examples run."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_training_from_python(ray_session: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(ROOT / "examples" / "train_from_python.py"))
    example["main"](["train.epochs=1", "model.width=4", "executor.device=cpu", f"folder={tmp_path}"])
    assert "same scores of all local modules: True" in capsys.readouterr().out


def test_setting_weights_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(ROOT / "examples" / "set_weights.py"))
    example["main"](["model.width=4", "executor.device=cpu"])
    said = capsys.readouterr().out
    assert said.count("loss ") == 12 and "backbone.stem.conv1.weight: (4, 3, 3, 3)" in said


def test_a_network_from_a_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(ROOT / "examples" / "use_network.py"))
    example["main"](["model.width=4", "train.epochs=2", "executor.device=cpu", f"folder={tmp_path}"])
    errors = re.search(r"test error (.*) %, in the run (.*) %\n17,\d\d\d parameters", capsys.readouterr().out)
    assert errors is not None and abs(float(errors[1]) - float(errors[2])) < 0.6  # another memory order, two images


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "said"),
    [("tune_mlaan", "report "), ("tune_repl", "method.mode="), ("tune_splits", "trial 0, cut after ")],
)
def test_searching(ray_session: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str) -> None:
    example = runpy.run_path(str(ROOT / "examples" / f"{name}.py"))
    small = ("tune.num_trials=2", "tune.max_concurrent=1", "train.epochs=1")  # one process, which is reused
    assert example["main"]([*small, "executor.device=cpu", f"tune.folder={tmp_path}"]) == 0
    assert said in capsys.readouterr().out
    (study,) = tmp_path.iterdir()
    assert (study / "trials.parquet").exists() and (study / "report.html").exists()


def test_an_example_explains_its_errors(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "examples" / "tune_mlaan.py"), "tune.num_trials=0", f"tune.folder={tmp_path}"]
    ended = subprocess.run(script, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and ended.stderr.startswith("error: tune.num_trials=0")
    assert "Traceback" not in ended.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["tune_mlaan", "tune_repl", "tune_splits"])
def test_the_full_size_is_a_search_as_well(tmp_path: Path, name: str) -> None:
    from isograd.tune.request import parse

    example = runpy.run_path(str(ROOT / "examples" / f"{name}.py"))
    space = example.get("SPACE", name.removeprefix("tune_"))
    request = parse(space, [*example["FULL"], "executor.device=cpu", f"tune.folder={tmp_path}"])
    assert request.base.data.name == "cifar10" and request.sweep.num_trials >= 100 and len(request.sweep.seeds) == 3
