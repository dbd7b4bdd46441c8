"""A run and a study go on with the data that they began with, wherever it lies, and with no other."""

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from isograd.cli.main import main
from isograd.compare.compare import compare_finished
from isograd.compare.notes import notes
from isograd.config.load import load
from isograd.errors import CheckpointError, ConfigError, DataError, StudyError
from isograd.run.experiment import prepare_resumed, run
from isograd.tune.choice import choose
from isograd.tune.request import move_request, parse, read_request
from isograd.tune.results import Outcome
from isograd.tune.storage import quiet_optuna
from isograd.tune.study import create_study, open_study


def write(folder: Path, seed: int, num_train: int = 24) -> Path:
    generator = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    for split, count in (("train", num_train), ("test", 6)):
        images = []
        for pixels in generator.integers(0, 256, (count, 8, 8), dtype=np.uint8):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "BMP")  # all take the same bytes
            images.append(buffer.getvalue())
        table = pa.table({"image": images, "label": generator.integers(0, 3, count)})
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet", compression="none", use_dictionary=False)
    return folder


@pytest.fixture
def altered(tmp_path: Path) -> tuple[Path, list[str]]:
    """A comparison's folder, and the options of one whose data has changed since its first seed was trained."""
    more = ["executor=sequential", "train.max_steps=2", f"data.path={write(tmp_path / 'data', 0)}"]
    asked = [option for option in (*options(tmp_path / "data"), *more) if not option.startswith("method")]
    assert main(["compare", "e2e", "--seeds", "0", "--output", str(tmp_path / "made"), *asked]) == 0
    write(tmp_path / "data", 0, 26)
    return tmp_path / "made", asked


def options(data: Path) -> list[str]:
    shape = [
        "data=parquet",
        "data.num_classes=3",
        "data.image_shape=[1,8,8]",
        "data.mean=[0.5]",
        "data.std=[0.5]",
        "data.batch_size=8",
    ]
    return [*shape, f"data.path={data}", "data.valid=0", "model=resnet20", "model.width=4", "method=e2e"]


def search_options(data: Path) -> list[str]:
    """Returns the options of a search, whose trials are judged on a part of the training split."""
    return [option for option in options(data) if option not in ("method=e2e", "data.valid=0")]


def test_a_run(tmp_path: Path) -> None:
    more = ["executor=sequential", "train.epochs=2", "train.max_steps=4", "checkpoint.every_steps=2"]
    run(load([*options(write(tmp_path / "data", 0)), *more, f"folder={tmp_path}", "run_name=run"]))
    folder, longer = tmp_path / "run", ["train.max_steps=6"]
    resumed = prepare_resumed(folder, longer)
    assert "no validation split" in resumed.note and resumed.data.num_train == 24
    assert json.loads((folder / "provenance.json").read_text())["data"] == resumed.data.to_json()

    shutil.copytree(tmp_path / "data", tmp_path / "moved")
    prepare_resumed(folder, [*longer, f"data.path={tmp_path / 'moved'}"])
    for seed, num_train in ((1, 24), (0, 26)):
        write(tmp_path / "data", seed, num_train)
        words = f"24 rows to train .*, then; {num_train} rows .*, now.*other rows.*data.path=FOLDER"
        with pytest.raises(CheckpointError, match=words):
            prepare_resumed(folder, longer)
    prepare_resumed(folder, longer, data_path=str(tmp_path / "moved"))


def test_a_study(tmp_path: Path) -> None:
    quiet_optuna()
    data = write(tmp_path / "data", 0)
    request = parse("dgl", [*search_options(data), f"tune.folder={tmp_path}", "tune.name=s"])
    create_study(request)
    assert open_study(read_request(request.folder)).data == request.identity()["data"]
    shutil.copytree(data, tmp_path / "moved")
    write(data, 1)
    with pytest.raises(StudyError, match=r"the data is not what study 's' in .* began with: 21 rows"):
        open_study(read_request(request.folder))
    moved = move_request(read_request(request.folder), [f"data.path={tmp_path / 'moved'}"])
    assert open_study(moved).request.base.data.path == str(tmp_path / "moved")


def test_a_trial_that_runs_again(tmp_path: Path) -> None:
    quiet_optuna()
    data = write(tmp_path / "data", 0)
    request = parse("dgl", [*search_options(data), f"tune.folder={tmp_path}", "tune.name=s"])
    study = create_study(request)
    assignment = study.propose()
    assert assignment is not None
    study.tell(assignment.number, Outcome("complete", {"score": 0.5, "peak_bytes": 1.0}, 1))
    data.rename(tmp_path / "moved")
    text, moved = f"{request.folder}/{assignment.number}", f"data.path={tmp_path / 'moved'}"
    with pytest.raises(DataError, match=r"Use data\.path=FOLDER"):
        choose(text)
    write(tmp_path / "other", 1)
    with pytest.raises(StudyError, match="the data is not what study 's' in"):
        choose(text, [f"data.path={tmp_path / 'other'}"])
    found = choose(text, ["executor=sequential", moved])
    allowed = [f"folder={tmp_path}", "executor=sequential", moved]
    config = found.configs(allowed)[0]
    assert config.data.path == str(tmp_path / "moved") and config.folder == str(tmp_path)
    for refused in (["optimizer.lr=0.7"], ["train.max_steps=3", "executor.threads=2"], ["model=resnet32"]):
        with pytest.raises(ConfigError, match=rf"^{re.escape(' '.join(refused))} changes what the trial computes"):
            found.configs([*allowed, *refused])
    with pytest.raises(ConfigError, match=r"^executor\.threads=2 cannot be changed in a study"):
        move_request(read_request(request.folder), ["checkpoint.keep=2", "executor.threads=2"])


def test_runs_of_a_comparison(altered: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    made, asked = altered
    assert main(["compare", "e2e", "--seeds", "0,1", "--output", str(made), *asked]) == 2
    assert re.search(r"e2e-seed0 was trained on other data: 24 rows.* 26 rows", capsys.readouterr().err)
    assert not (made / "runs" / "e2e-seed1").exists()

    for seed in (1, 2):
        run(load([*asked, "method=e2e", f"seed={seed}", f"folder={made.parent}", f"run_name=seed{seed}"]))
    first, *others = made / "runs" / "e2e-seed0", made.parent / "seed1", made.parent / "seed2"
    assert main(["compare", *map(str, others), "--output", str(made.parent / "alike")]) == 0
    assert main(["compare", str(first), *map(str, others), "--output", str(made.parent / "mixed")]) == 2
    assert "have the same configuration, but other data: 24 rows" in capsys.readouterr().err


def test_entries_of_a_comparison(altered: tuple[Path, list[str]]) -> None:
    made, asked = altered
    run(load([*asked, "method=dgl", f"folder={made.parent}", "run_name=dgl"]))
    compared = compare_finished([made / "runs" / "e2e-seed0", made.parent / "dgl"])
    (said,) = (note for note in notes(compared) if "different data" in note)
    assert re.search(r"e2e 24 rows .*; dgl 26 rows", said)
    assert not any("different data" in note for note in notes(compare_finished([made.parent / "dgl"])))


@pytest.mark.parametrize("left", [None, "", "[]", "{}"])
def test_data_that_is_not_known_is_said(altered: tuple[Path, list[str]], left: str | None) -> None:
    made, asked = altered
    run(load([*asked, "method=dgl", f"folder={made.parent}", "run_name=dgl"]))
    provenance = made.parent / "dgl" / "provenance.json"
    provenance.unlink()
    if left is not None:
        provenance.write_text(left)
    said = notes(compare_finished([made / "runs" / "e2e-seed0", made.parent / "dgl"]))
    assert any(note.startswith("What data dgl was trained on is not known") for note in said)
