"""`isograd compare`: real runs, their table, and every bad input with its explanation."""

import json
import statistics
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from isograd.cli.main import main
from isograd.run.record import RunRecord
from isograd.run.stored_record import read_record
from tests.unit.studies.studies import trial, write

QUICK = ("data=digits", "model=resnet20", "model.width=4", "executor=sequential", "executor.device=cpu")
SHORT = (*QUICK, "train.epochs=1", "train.max_steps=4")
COMMAND = ("compare", "e2e", "DGL CNN: method=dgl method.auxiliary=cnn", "--seeds", "0,1", *SHORT)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods, two seeds."""
    folder = tmp_path_factory.mktemp("compare") / "out"
    assert main([*COMMAND, "--output", str(folder), "partition.num_modules=3"]) == 0
    return folder


def results(output: Path, slug: str) -> list[RunRecord]:
    return [read_record(output / "runs" / f"{slug}-seed{seed}") for seed in (0, 1)]


def test_the_numbers_are_those_of_the_runs(output: Path) -> None:
    tree = json.loads((output / "comparison.json").read_text())
    e2e, dgl = (entry["summary"] for entry in tree["entries"])
    theirs, ours = results(output, "e2e"), results(output, "dgl-cnn")
    assert (tree["split"], ours[0].split) == ("test", "valid")
    scores, own = [[record.test or 0.0 for record in records] for records in (theirs, ours)], dgl["score"]
    assert own["mean"] == pytest.approx(statistics.fmean(scores[1]))
    assert own["deviation"] == pytest.approx(statistics.stdev(scores[1]))
    assert dgl["best"]["mean"] == pytest.approx(statistics.fmean(record.best or 0.0 for record in ours))
    pairs = [mine - other for other, mine in zip(*scores, strict=True)]
    assert dgl["difference"] == {
        "mean": pytest.approx(statistics.fmean(pairs)),
        "deviation": pytest.approx(statistics.stdev(pairs)),
        "num_values": 2,
    }
    speeds = [[record.samples_per_s or 0.0 for record in records] for records in (theirs, ours)]
    ratios = [mine / other for other, mine in zip(*speeds, strict=True)]
    assert dgl["speed_ratio"] == pytest.approx(statistics.fmean(ratios))
    assert dgl["peak_bytes"] == max(record.peak_bytes for record in ours)
    assert dgl["device_s"]["mean"] == pytest.approx(statistics.fmean(record.device_s for record in ours))
    assert e2e["difference"] is None and tree["baseline"] == "e2e" and tree["seeds"] == [0, 1]
    assert tree["rule"] == "Equal epochs: 1, at most 4 steps, for every entry."
    assert tree["hardware"] == [ours[0].hardware] and tree["entries"][1]["num_modules"] == 3
    assert "e2e: one module, partition options not used." in tree["notes"]


def test_the_files_are_there_and_agree(output: Path) -> None:
    names = ["comparison.json", "learning_curves.png", "runs", "table.md", "table.tex"]
    assert sorted(path.name for path in output.iterdir()) == names
    mean = 100 * statistics.fmean(record.test or 0.0 for record in results(output, "dgl-cnn"))
    for name in ("table.md", "table.tex"):
        text = (output / name).read_text()
        assert f"{mean:.2f}" in text and "isograd compare e2e" in text
    assert not list((output / "runs" / "e2e-seed0" / "checkpoints").iterdir())


def test_a_second_time_only_what_is_missing_is_trained(output: Path, capfd: pytest.CaptureFixture[str]) -> None:
    written = {path: path.stat().st_mtime_ns for path in output.glob("runs/*/result.json")}
    again = output / "runs" / "e2e-seed1" / "result.json"
    again.unlink()
    assert main([*COMMAND, "--output", str(output), "partition.num_modules=3"]) == 0
    assert capfd.readouterr().out.count("(finished before)") == 3
    changed = {path for path, when_ns in written.items() if path.stat().st_mtime_ns != when_ns}
    assert changed == {again}


def test_another_configuration_needs_another_folder(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, "--output", str(output), "partition.num_modules=4"]) == 2
    said = capsys.readouterr().err
    assert "it differs in partition.num_modules" in said and "Use another --output" in said


def test_finished_runs_are_compared_as_they_are(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(path) for path in sorted((output / "runs").iterdir())]
    assert main(["compare", *runs, "--output", str(tmp_path / "again"), "--baseline", "e2e"]) == 0
    first, second = (json.loads((folder / "comparison.json").read_text()) for folder in (output, tmp_path / "again"))
    summaries = {entry["method"]: entry["summary"] for entry in first["entries"]}
    assert {entry["label"]: entry["summary"] for entry in second["entries"]} == summaries
    assert [entry["label"] for entry in second["entries"]] == ["dgl", "e2e"]
    assert main(["compare", *runs, "--output", str(tmp_path / "no"), "--baseline", "man"]) == 2
    assert "there is no entry 'man'" in capsys.readouterr().err


def test_trials_of_studies_are_compared_beside_runs(output: Path, tmp_path: Path) -> None:
    write(tmp_path / "study", trial(0, ((0.6, 0.5), (0.4, 0.4))), trial(3))
    items = [str(tmp_path / "study"), str(tmp_path / "study" / "0"), *map(str, (output / "runs").glob("e2e-*"))]
    assert main(["compare", *items, "--output", str(tmp_path / "out"), "--baseline", "e2e"]) == 0
    tree = json.loads((tmp_path / "out" / "comparison.json").read_text())
    entries = {entry["label"]: entry for entry in tree["entries"]}
    assert list(entries) == ["dgl made/3", "dgl made/0", "e2e"]
    assert entries["dgl made/3"]["summary"]["score"]["mean"] == pytest.approx(0.26)
    baseline = [run["test"] for run in entries["e2e"]["runs"]]
    assert entries["dgl made/0"]["summary"]["difference"]["mean"] == pytest.approx(0.41 - statistics.fmean(baseline))
    assert any(note.startswith("dgl made/3: trial 3 of study made, the best of 2") for note in tree["notes"])


@pytest.mark.parametrize(("name", "said"), [("7", "has no trial 7"), ("1", "trial 1 of study made is not complete")])
def test_trials_that_cannot_be_compared_are_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    write(tmp_path / "study", trial(0), trial(1, ((0.5, 0.5),), kind="pruned"))
    assert main(["compare", str(tmp_path / "study" / name), "--output", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_run_that_fails_is_in_the_table_and_stops_no_other(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wild = "wild: method=dgl lr_schedule=cosine optimizer.lr=1e30"
    assert main(["compare", wild, "dgl", "--output", str(tmp_path), "--seeds", "0", "--baseline", "dgl", *SHORT]) == 1
    first, second = json.loads((tmp_path / "comparison.json").read_text())["entries"]
    assert first["runs"] == [] and len(second["runs"]) == 1
    (failure,) = first["failures"]
    assert failure["seed"] == 0 and failure["reason"].startswith("the loss of the local module that ends in")
    assert f"wild, seed 0, failed: {failure['reason']}." in capfd.readouterr().out
    assert "| wild | 4 | 1 | failed | - | - |" in (tmp_path / "table.md").read_text()


def test_equal_device_seconds(tmp_path: Path) -> None:
    arguments = ("--rule", "device-seconds", "--seeds", "0", "data.batch_size=128", "train.epochs=2", "model.width=2")
    assert main(["compare", "e2e", "dgl", "--output", str(tmp_path), *QUICK, *arguments]) == 0
    calibration = json.loads((tmp_path / "calibration.json").read_text())
    epoch_s = {label: 1294 / stored["speed"]["samples_per_s"] for label, stored in calibration.items()}
    afforded = max(1, int(2 * epoch_s["e2e"] / epoch_s["dgl"]))
    e2e, dgl = json.loads((tmp_path / "comparison.json").read_text())["entries"]
    assert (e2e["runs"][0]["num_epochs"], dgl["runs"][0]["num_epochs"]) == (2, afforded)
    stored = OmegaConf.load(tmp_path / "runs" / "dgl-seed0" / "config.yaml")
    assert stored.train.epochs == afforded


BAD = {
    "": "nothing to compare",
    "dlg": "entry 'dlg': unknown method 'dlg'. Did you mean 'dgl'",
    "dgl dgl": "the label 'dgl' is taken",
    "dgl --seeds 0,x": "--seeds 0,x does not list seeds",
    "dgl --baseline e2e": "there is no entry 'e2e' to be the baseline",
    "dgl model=resnet33": "Did you mean 'resnet32'",
    "dgl method.auxiliary=mpl": "entry 'dgl': task=classification has no auxiliary network 'mpl'. Did you mean 'mlp'?",
    "e2e dgl partition.num_modules=40": "entry 'dgl': cannot cut resnet20 into 40 local modules",
    "dgl executor.device=cuda": "0 GPUs",
    "dgl data=cifar10 data.path=nowhere": "nowhere",
    "dgl data.valid=0 data.batch_size=359": "the last batch of an epoch has 1 sample",
    "dgl --device-seconds 5": "Use --rule device-seconds as well",
    "runs/nothing": "there is no such folder",
}


@pytest.mark.parametrize("arguments", BAD)
def test_bad_input_is_explained_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: str
) -> None:
    first = ["--output", str(tmp_path / "out"), *(() if arguments.startswith("runs") else QUICK)]
    assert main(["compare", *first, *arguments.split()]) == 2
    said = capsys.readouterr().err
    assert BAD[arguments] in said
    assert said.startswith("error: ") and said.count(". ") >= 2 and "Use " in said
    assert not (tmp_path / "out").exists()
