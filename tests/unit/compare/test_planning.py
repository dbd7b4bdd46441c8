"""What every entry is checked for before anything is trained."""

from pathlib import Path

import pytest

from isograd.compare.arguments import parse
from isograd.compare.planning import check_folders, plan
from isograd.engine.config import fingerprint
from isograd.errors import ConfigError, PartitionError, RunFolderError
from isograd.executors.pipeline.config import PipelinedConfig
from isograd.run.folder import RunFolder
from isograd.system.lock import held
from tests.language import SMALL as LANGUAGE
from tests.language import write_text
from tests.unit.studies.records import run_record

SMALL = ("model.width=4", "executor=sequential", "executor.device=cpu")


def test_every_seed_gets_a_folder_and_the_entry_its_overrides(tmp_path: Path) -> None:
    items = ["dgl", "CNN: method=dgl method.auxiliary=cnn train.epochs=3", "train.epochs=3", *SMALL]
    first, second = plan(parse(items, output=tmp_path / "out", seeds="0,7"))
    assert [config.seed for config in second.configs.values()] == [0, 7]
    assert second.configs[7].run_name == "cnn-seed7" and second.config.folder == str(tmp_path / "out" / "runs")
    assert (first.config.method.auxiliary, second.config.method.auxiliary) == ("auto", "cnn")
    assert first.config.checkpoint.every_epochs == 0
    assert first.num_modules == 4 and first.auxiliary.num_trainable > 0 and first.auxiliary.num_frozen == 0
    assert not (tmp_path / "out").exists()


def test_an_unfinished_run_is_made_again_unless_it_is_another_or_under_way(tmp_path: Path) -> None:
    (ours,) = plan(parse(["dgl", *SMALL], output=tmp_path, seeds="0"))
    (other,) = plan(parse(["dgl", *SMALL, "optimizer.lr=0.3"], output=tmp_path, seeds="0"))
    folder = RunFolder(tmp_path / "runs" / "dgl-seed0")
    folder.path.mkdir(parents=True)
    folder.write_config(ours.config)
    check_folders([ours])
    with pytest.raises(RunFolderError, match=r"it differs in optimizer\.lr"):
        check_folders([other])
    with held(folder.path), pytest.raises(RunFolderError, match="by another process now"):
        check_folders([ours])
    assert [path.name for path in folder.path.parent.iterdir()] == ["dgl-seed0"]


def test_a_method_without_cuts_is_spared_the_others_cuts(tmp_path: Path) -> None:
    items = ["e2e", "dgl", "partition.num_modules=3", "executor.num_stages=2", "executor=pipelined", SMALL[0]]
    e2e, dgl = plan(parse(items, output=tmp_path, seeds="0"))
    assert (e2e.num_modules, dgl.num_modules) == (1, 3) and e2e.auxiliary.num_trainable == 0
    assert e2e.remarks == ("one module, partition options and executor.num_stages not used",)
    assert dgl.remarks == () and PipelinedConfig.within(dgl.config).num_stages == 2


def test_cuts_of_its_own_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(PartitionError, match="entry 'E2E': method 'e2e' cannot have 3 local modules"):
        plan(parse(["E2E: method=e2e partition.num_modules=3", *SMALL], output=tmp_path, seeds="0"))


def test_equal_epochs_are_equal(tmp_path: Path) -> None:
    items = ["dgl", "long: method=dgl train.epochs=30", *SMALL]
    with pytest.raises(ConfigError, match="entry 'long' trains for 30 epochs, entry 'dgl' for 15"):
        plan(parse(items, output=tmp_path, seeds="0"))
    with pytest.raises(ConfigError, match=r"train\.max_steps=4 does not go with"):
        plan(parse([*items, "train.max_steps=4"], output=tmp_path, rule="device-seconds"))


def test_a_schedule_by_steps_is_told_what_fits_a_budget(tmp_path: Path) -> None:
    write_text(tmp_path)
    items = ["dgl", *LANGUAGE, f"data.path={tmp_path}"]
    items.remove("lr_schedule.warmup_steps=2")  # which is of the schedule that is left out
    with pytest.raises(ConfigError, match="does not go with --rule device-seconds") as caught:
        plan(parse(items, output=tmp_path / "out", rule="device-seconds"))
    schedule, steps = caught.value.mend.removeprefix("Use ").partition(",")[0].split()
    (entry,) = plan(parse([*items, schedule, steps], output=tmp_path / "out", rule="device-seconds"))
    assert entry.config.lr_schedule.name == "cosine" and entry.config.train.max_steps == 0


@pytest.mark.parametrize("changed", ["optimizer.lr=0.3", "executor.threads=2", "train.max_steps=5"])
def test_a_finished_run_of_another_configuration_is_in_the_way(tmp_path: Path, changed: str) -> None:
    (before,) = plan(parse(["dgl", *SMALL], output=tmp_path, seeds="0"))
    folder = RunFolder(tmp_path / "runs" / "dgl-seed0")
    folder.path.mkdir(parents=True)
    folder.write_config(before.config)
    folder.write_json("result.json", run_record(fingerprint=fingerprint(before.config)).to_json())
    check_folders([before])
    with pytest.raises(RunFolderError, match=f"it differs in {changed.partition('=')[0]}"):
        check_folders(plan(parse(["dgl", *SMALL, changed], output=tmp_path, seeds="0")))
