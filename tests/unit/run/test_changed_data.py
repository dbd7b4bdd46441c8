"""A run and a study go on with the data that they began with, wherever it lies, and with no other."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from isograd.config.load import load
from isograd.errors import CheckpointError, StudyError
from isograd.run.experiment import prepare_resumed, run
from isograd.tune.request import elsewhere, kept, parse
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


def options(data: Path) -> list[str]:
    shape = ["data=parquet", "data.image_shape=[1,8,8]", "data.mean=[0.5]", "data.std=[0.5]", "data.batch_size=8"]
    return [*shape, f"data.path={data}", "model=resnet20", "model.width=4", "method=e2e"]


def test_a_run(tmp_path: Path) -> None:
    more = ["executor=sequential", "train.epochs=2", "train.max_steps=4", "checkpoint.every_steps=2"]
    run(load([*options(write(tmp_path / "data", 0)), *more, f"folder={tmp_path}", "run_name=run"]))
    folder, longer = tmp_path / "run", ["train.max_steps=6"]
    resumed = prepare_resumed(folder, longer)
    assert resumed.note == "" and resumed.data.num_train == 24
    assert json.loads((folder / "provenance.json").read_text())["data"] == resumed.data.to_json()

    shutil.copytree(tmp_path / "data", tmp_path / "moved")
    prepare_resumed(folder, [*longer, f"data.path={tmp_path / 'moved'}"])
    for seed, num_train in ((1, 24), (0, 26)):
        write(tmp_path / "data", seed, num_train)
        words = f"24 rows to train .*, then; {num_train} rows .*, now.*other rows.*data.path=FOLDER"
        with pytest.raises(CheckpointError, match=words):
            prepare_resumed(folder, longer)
    prepare_resumed(folder, longer, data_path=str(tmp_path / "moved"))

    for header in (folder / "checkpoints").glob("*/checkpoint.json"):
        tree = json.loads(header.read_text())
        header.write_text(json.dumps({name: part for name, part in tree.items() if name != "data"}))
    assert "has not been checked" in prepare_resumed(folder, longer).note


def test_a_study(tmp_path: Path) -> None:
    quiet_optuna()
    data = write(tmp_path / "data", 0)
    request = parse("dgl", [*(o for o in options(data) if "method" not in o), f"tune.folder={tmp_path}", "tune.name=s"])
    create_study(request)
    assert open_study(kept(request.folder)).notes == ()
    shutil.copytree(data, tmp_path / "moved")
    write(data, 1)
    with pytest.raises(StudyError, match=r"the data is not what study 's' in .* began with: 24 rows"):
        open_study(kept(request.folder))
    moved = elsewhere(kept(request.folder), [f"data.path={tmp_path / 'moved'}"])
    assert open_study(moved).request.base.data.path == str(tmp_path / "moved")
