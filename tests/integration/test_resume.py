"""A resumed run equals one that never stopped, bit for bit, whatever executor writes and reads the checkpoint."""

import json
import shutil
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from isograd.config.load import load
from isograd.config.stored import read_config
from isograd.errors import CheckpointError, ConfigError, RunFolderError
from isograd.executors.executor import Opener, make_executor
from isograd.executors.hosts import Hosts
from isograd.run import checkpoint
from isograd.run.experiment import execute, prepare, prepare_resumed, run
from isograd.run.stored_record import read_record
from isograd.system.lock import held
from tests.runs import differences

SMALL = ("model.width=8", "train.epochs=2", "executor.device=cpu", "model.drop_rate=0.1")
SEQUENTIAL = ("executor=sequential",)


def pipelined(num_stages: int) -> tuple[str, ...]:
    return ("executor=pipelined", f"executor.num_stages={num_stages}")


def opener(actors: Hosts, options: tuple[str, ...]) -> Opener:
    return actors.open if "executor=pipelined" in options else make_executor  # one process ends what they host


def final_state(folder: Path) -> dict[str, Tensor]:
    return load_file(checkpoint.newest(folder / "checkpoints") / "state.safetensors")


@cache
def uninterrupted(folder: Path) -> dict[str, Tensor]:
    run(load([*SMALL, *SEQUENTIAL, f"folder={folder}", "run_name=whole"]))
    return final_state(folder / "whole")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return uninterrupted(tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize(
    ("first", "second", "stop"),
    [
        (pipelined(3), SEQUENTIAL, 9),
        (pipelined(2), SEQUENTIAL, 23),
        (SEQUENTIAL, pipelined(3), 31),
        *[(SEQUENTIAL, SEQUENTIAL, stop) for stop in (9, 23, 31, 45)],
    ],
    ids=lambda value: f"step {value}" if isinstance(value, int) else value[-1],
)
def test_resumed_run_equals_uninterrupted_run(
    actors: Hosts, tmp_path: Path, whole: dict[str, Tensor], first: tuple, second: tuple, stop: int
) -> None:
    part = load([*SMALL, *first, f"folder={tmp_path}", "run_name=part", f"train.max_steps={stop}"])
    execute(prepare(part), None, opener(actors, first))
    assert checkpoint.newest(tmp_path / "part" / "checkpoints").name == f"step-{stop:08d}"
    rest = prepare_resumed(tmp_path / "part", [*second, "train.max_steps=0"])
    resumed = execute(rest, None, opener(actors, second))
    assert resumed.num_steps == 46
    assert differences(whole, final_state(tmp_path / "part")) == []


def test_checkpoints_between_epochs_do_not_change_the_run(tmp_path: Path, whole: dict[str, Tensor]) -> None:
    options = ("checkpoint.every_steps=10", "checkpoint.keep=3")
    run(load([*SMALL, *SEQUENTIAL, *options, f"folder={tmp_path}", "run_name=often"]))
    assert differences(whole, final_state(tmp_path / "often")) == []
    names = [path.name for path in checkpoint.saved(tmp_path / "often" / "checkpoints")]
    assert names == ["step-00000030", "step-00000040", "step-00000046"]


@pytest.mark.parametrize("executor", [SEQUENTIAL, pipelined(2)], ids=["sequential", "pipelined"])
def test_a_step_that_ends_an_epoch_is_saved_once_and_after_its_test(
    actors: Hosts, tmp_path: Path, executor: tuple[str, ...], whole: dict[str, Tensor]
) -> None:
    options = ("checkpoint.every_steps=23", "checkpoint.every_epochs=0", "train.max_steps=40")
    first = load([*SMALL, *executor, *options, f"folder={tmp_path}", "run_name=edge"])
    execute(prepare(first), None, opener(actors, executor))
    edge = tmp_path / "edge"
    assert [path.name for path in checkpoint.saved(edge / "checkpoints")] == ["step-00000023", "step-00000040"]
    shutil.rmtree(edge / "checkpoints" / "step-00000040")
    with (edge / "events.jsonl").open("a") as events:
        events.write('{"event": "Progr')  # as a killed run leaves it
    execute(prepare_resumed(edge, ["train.max_steps=0"]), None, opener(actors, executor))
    assert differences(whole, final_state(edge)) == []
    records = [json.loads(line) for line in (edge / "events.jsonl").read_text().splitlines()]
    tested = [(row["epoch"], row["module"], row["split"]) for row in records if row["event"] == "EpochRecord"]
    assert sorted(tested) == sorted({*tested})
    assert {row["num_samples"] for row in records if row.get("split") == "train"} == {1437}


OVERRIDES = {
    "foo": "'foo' is not an override",
    "executor.threads=abc": "executor.threads=abc is not a whole number",
    "executor.num_stages=2": "It is an option of executor=microbatch and executor=pipelined",
    "executor=pipelined executor.num_stages=abc": "executor.num_stages=abc is not a whole number, or null",
    "executor.typo=3": "there is no option 'executor.typo'",
    "experiment=dgl_cifar10": "a preset, which only a new run begins with",
    "model=resnet32": "was written with configuration",
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_overrides_that_do_not_fit_are_explained(tmp_path: Path, override: str) -> None:
    run(load([*SMALL, *SEQUENTIAL, f"folder={tmp_path}", "run_name=short", "train.max_steps=1"]))
    with pytest.raises((ConfigError, CheckpointError), match=OVERRIDES[override]):
        prepare_resumed(tmp_path / "short", override.split())


def test_resumed_result_remembers_earlier_epochs(tmp_path: Path) -> None:
    run(load([*SMALL, *SEQUENTIAL, f"folder={tmp_path}", "run_name=part", "train.max_steps=23"]))
    result = execute(prepare_resumed(tmp_path / "part", ["train.max_steps=0"]))
    assert list(result.by_epoch()) == [1, 2] and result.split == "test"


def test_the_validation_split_is_run_as_often_as_asked_and_the_test_split_once(tmp_path: Path) -> None:
    options = ("train.epochs=3", "train.evaluate_every=2", "data.valid=0.1", f"folder={tmp_path}")
    whole = run(load([*SMALL, *SEQUENTIAL, *options, "run_name=whole"]))
    run(load([*SMALL, *SEQUENTIAL, *options, "run_name=part", "train.max_steps=42"]))
    resumed = execute(prepare_resumed(tmp_path / "part", ["train.max_steps=0"]))
    for record in (whole, resumed):
        assert record.split == "valid" and list(record.by_epoch()) == [2, 3]
    assert list(whole.by_epoch("test")) == [3] and whole.by_epoch() == resumed.by_epoch() and whole.test == resumed.test
    with pytest.raises(ConfigError, match=r"train\.evaluate_every=1 cannot be set .* it was begun with 2"):
        prepare_resumed(tmp_path / "part", ["train.evaluate_every=1"])


def test_prepare_writes_nothing(tmp_path: Path) -> None:
    prepare(load([*SMALL, f"folder={tmp_path / 'new'}"]))
    assert not (tmp_path / "new").exists()


EXCHANGING = ("method=mlaan", "method.decay=0.9", "method.lag=2", "partition.num_modules=4", "train.max_steps=14")


@pytest.mark.parametrize(("first", "second"), [(pipelined(2), SEQUENTIAL), (SEQUENTIAL, pipelined(3))])
def test_weights_that_lag_behind_are_part_of_a_checkpoint(
    actors: Hosts, tmp_path: Path, first: tuple, second: tuple
) -> None:
    run(load([*SMALL, *EXCHANGING, *SEQUENTIAL, f"folder={tmp_path}", "run_name=whole"]))
    part = load([*SMALL, *EXCHANGING, *first, f"folder={tmp_path}", "run_name=part", "train.max_steps=9"])
    execute(prepare(part), None, opener(actors, first))
    execute(prepare_resumed(tmp_path / "part", [*second, "train.max_steps=14"]), None, opener(actors, second))
    state = final_state(tmp_path / "part")
    assert differences(final_state(tmp_path / "whole"), state) == []
    assert any(name.startswith("exchange.") for name in state)


@pytest.mark.parametrize("left", ["", "[1]\n5\nnull\n"])
def test_a_lost_history_is_no_result_without_errors(tmp_path: Path, left: str) -> None:
    run(load([*SMALL, *SEQUENTIAL, f"folder={tmp_path}", "run_name=part", "train.max_steps=30"]))
    folder = tmp_path / "part"
    (folder / "events.jsonl").write_text(left)
    with pytest.raises(RunFolderError, match=r"events\.jsonl has no test of 1 of 1 epochs .*checkpoint has trained: 1"):
        prepare_resumed(folder, ["train.max_steps=0"])


def test_a_damaged_result_is_written_again(tmp_path: Path) -> None:
    run(load([*SMALL, *SEQUENTIAL, f"folder={tmp_path}", "run_name=short", "train.max_steps=23"]))
    result = tmp_path / "short" / "result.json"
    expected = read_record(tmp_path / "short").final
    with pytest.raises(RunFolderError, match="is complete"):
        prepare_resumed(tmp_path / "short")
    for damaged in ("", "[]", result.read_text()[:20]):
        result.write_text(damaged)
        assert execute(prepare_resumed(tmp_path / "short")).final == expected
        assert read_record(tmp_path / "short").final == expected


def test_what_a_resumed_run_took_is_that_of_all_its_legs(tmp_path: Path) -> None:
    folder = tmp_path / "part"
    run(load([*SMALL, *SEQUENTIAL, f"folder={tmp_path}", "run_name=part", "train.max_steps=9"]))
    early = checkpoint.newest(folder / "checkpoints")
    execute(prepare_resumed(folder, ["train.max_steps=23"]))
    (folder / "result.json").unlink()
    again = execute(prepare_resumed(folder))  # takes no step
    assert [leg.start for leg in again.spent] == [0, 9, 23]
    assert sum(leg.num_samples for leg in again.spent) == 1437 and again.spent[-1].num_samples == 0
    assert asdict(again.spent[0]) == json.loads((early / "checkpoint.json").read_text())["spent"][0]
    assert again.device_s == sum(leg.device_s for leg in again.spent)
    assert again.samples_per_s == 1437 / sum(leg.train_s for leg in again.spent)
    assert again.peak_bytes == max(leg.peak_bytes for leg in again.spent)


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path) -> None:
    run(load([*SMALL, *SEQUENTIAL, f"folder={tmp_path}", "run_name=part", "train.max_steps=9"]))
    folder = tmp_path / "part"
    header = checkpoint.newest(folder / "checkpoints") / "checkpoint.json"
    header.write_text(json.dumps(json.loads(header.read_text()) | {"format": 1}))
    with pytest.raises(CheckpointError, match="has format 1, and this version reads format 2") as caught:
        prepare_resumed(folder, ["train.max_steps=23"])
    assert caught.value.mend.startswith("Train the run again with `isograd train`")


def test_a_run_that_another_process_went_on_with_is_read_again(tmp_path: Path) -> None:
    run(load([*SMALL, *SEQUENTIAL, f"folder={tmp_path}", "run_name=part", "train.max_steps=2"]))
    folder = tmp_path / "part"
    with held(folder), pytest.raises(RunFolderError, match="by another process now"):
        prepare_resumed(folder, ["train.max_steps=4"])
    early = prepare_resumed(folder, ["train.max_steps=4"])
    execute(prepare_resumed(folder, ["train.max_steps=3"]))
    with pytest.raises(RunFolderError, match=r"is .*step-00000003, no longer .*step-00000002"):
        execute(early)


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    config = load([*SMALL, *SEQUENTIAL, f"folder={tmp_path}", "run_name=early", "train.max_steps=1"])
    run(config)
    shutil.rmtree(tmp_path / "early" / "checkpoints" / "step-00000001")
    with pytest.raises(CheckpointError, match=rf"Delete {tmp_path}/early, and start it again"):
        prepare_resumed(tmp_path / "early")
    with pytest.raises(RunFolderError, match="or delete that folder: it has no checkpoint to go on from"):
        prepare(config)


def test_tensors_that_are_not_what_was_written_are_refused(tmp_path: Path) -> None:
    run(load([*SMALL, *SEQUENTIAL, f"folder={tmp_path}", "run_name=part", "train.max_steps=2"]))
    written = checkpoint.newest(tmp_path / "part" / "checkpoints")
    tensors = written / "state.safetensors"
    assert tensors.stat().st_mode == (written / "checkpoint.json").stat().st_mode
    intact = tensors.read_bytes()
    for damaged in (intact[:-40] + bytes(40), intact[:-1] + bytes([intact[-1] ^ 1])):
        tensors.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="its digest is another one"):
            prepare_resumed(tmp_path / "part", ["train.max_steps=3"])
    tensors.write_bytes(intact)
    renamed = written.rename(written.with_name("step-00000099"))  # its place says nothing
    assert execute(prepare_resumed(tmp_path / "part", ["train.max_steps=3"])).num_steps == 3 and renamed.exists()
    assert read_config(tmp_path / "part" / "config.yaml").train.max_steps == 3  # what reads the folder later goes by it
