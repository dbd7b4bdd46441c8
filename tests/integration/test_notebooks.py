"""The notebooks run from top to bottom on the results beside them, and are kept with what they show."""

import json
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from pyarrow import parquet

from isograd.studies.reading import load_study
from isograd.tune.table import FORMAT, METADATA
from tests.processes import HUNG_S
from tests.unit.studies.studies import trial, write

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
TABLES = sorted((ROOT / "examples" / "results").rglob("trials.parquet"))

ARE_OLD = any(json.loads(parquet.read_metadata(path).metadata[METADATA])["format"] < FORMAT for path in TABLES)
made_again = pytest.mark.skipif(
    ARE_OLD, reason="the example studies are of an earlier format, and are to be made again"
)


@pytest.fixture(autouse=True)
def _paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels import what the tests import."""
    paths = [str(ROOT / "platform"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.delenv("ISOGRAD_STUDY", raising=False)


def executed(name: str) -> nbformat.NotebookNode:
    notebook = nbformat.read(FOLDER / name, as_version=4)
    client = NotebookClient(
        notebook, timeout=int(HUNG_S), kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    )
    return client.execute()


def shown(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """What each code cell displays."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [sorted(kind for output in cell.outputs for kind in output.get("data", ())) for cell in cells]


@made_again
@pytest.mark.long
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_show_what_they_are_kept_with(name: str) -> None:
    kept = nbformat.read(FOLDER / name, as_version=4)
    assert shown(executed(name)) == shown(kept)
    assert any("image/png" in each for each in shown(kept))
    assert all(cell.outputs or "warnings" in cell.source for cell in kept.cells if cell.cell_type == "code")


@pytest.mark.filterwarnings("ignore:IProgress not found")
def test_a_study_of_ones_own_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, trial(0), trial(1, ((0.5, 0.4),), kind="pruned"))
    monkeypatch.setenv("ISOGRAD_STUDY", str(tmp_path))
    names: dict[str, object] = {}
    for cell in nbformat.read(FOLDER / "analyse_tune.ipynb", as_version=4).cells:
        if cell.cell_type == "code":  # here, because a kernel's start costs seconds
            exec(cell.source, names)
    said = capsys.readouterr().out
    assert "isograd train --from-trial made/0" in said and "1 complete trials are too few for importances" in said


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_what_is_kept_names_no_machine(name: str) -> None:
    text = (FOLDER / name).read_text()
    without_pictures = re.sub(r'"image/png": "[^"]*"', "", text)
    assert len(text) < 400_000 and not re.search(r'["\s](/\w+){2,}|"stderr"|"timing"', without_pictures)
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata["kernelspec"]["name"] == "python3" and set(notebook.metadata) <= {
        "kernelspec",
        "language_info",
    }


@made_again
@pytest.mark.parametrize("path", TABLES, ids=[path.parent.name for path in TABLES])
def test_results_name_no_machine(path: Path) -> None:
    study = load_study(path)
    texts = [*study.items, *study.provenance["command"], *(str(found.config) for found in study.trials)]
    assert path.stat().st_size < 200_000 and "host" not in study.provenance
    assert not any(found.host for found in study.trials) and not re.search(r"(/\w+){2,}", " ".join(texts))


def test_there_are_notebooks_and_results() -> None:
    assert NOTEBOOKS == ["analyse_tune.ipynb", "compare_methods.ipynb"] and len(TABLES) == 5
