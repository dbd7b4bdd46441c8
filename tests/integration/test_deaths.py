"""A process that dies is told of once: the signal or the status, what it said last, and where its log is."""

import os
import re
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from isograd.cli.main import main
from isograd.cluster.config import ClusterConfig
from isograd.cluster.notices import without_notices
from isograd.data.synthetic import tiny_source
from isograd.engine.program import Program
from isograd.engine.stage import Stage
from isograd.errors import ProcessDiedError, StageFailedError
from isograd.events.events import Progress
from isograd.executors.pipeline.config import PipelinedConfig
from isograd.executors.pipeline.pipeline import Pipeline
from isograd.planning.emulated import EmulatedBuilder
from isograd.tune.request import read_request
from isograd.tune.results import outcome_of
from isograd.tune.study import open_study
from tests.processes import nothing_left, trial_processes, wait_until

NATIVE = r"was ended by signal {name} \([\w -]+\), in native code: File \".+\", line \d+ in \w+ \| File .+ "
LOG = r"\(log: (/.+/worker-\w+-\w+-\d+\.err)\)"


@dataclass(frozen=True)
class Leaving:
    """Builds a stage that ends its process in the middle of its run."""

    status: int
    at_once: bool

    def __call__(self, device: torch.device) -> Stage:
        stage: Any = EmulatedBuilder(1, 0.001, 2**10)(device)
        run = stage.run

        def leaving(messages: Iterable[Any]) -> Iterator[Any]:
            for event in run(messages):
                yield event
                if isinstance(event, Progress) and event.step > 3:
                    print("the disk of my dreams is full", file=sys.stderr, flush=True)
                    (os._exit if self.at_once else sys.exit)(self.status)

        stage.run = leaving
        return stage


def died(second: Any, number: signal.Signals | None = None) -> str:
    """Returns what is said of the second stage's death, by itself or by a signal; nothing is left of the pipeline."""
    builders = [EmulatedBuilder(0, 0.001, 2**10), second]
    pipeline = Pipeline(builders, PipelinedConfig(device="cpu", event_interval_s=0.0), ClusterConfig())
    process_ids: list[int] = []
    with pytest.raises(ProcessDiedError) as failure, pipeline:
        process_ids = pipeline.process_ids()
        for event in pipeline.fit(Program(tiny_source(5000), num_epochs=1000, evaluates=False)):
            if number is not None and isinstance(event, Progress) and event.stage == 1 and event.step > 3:
                os.kill(process_ids[1], number)
                number = None
    assert wait_until(lambda: nothing_left(process_ids))
    assert re.match(r"stage 1 died at about step \d+: its process ", failure.value.what)
    log = re.search(LOG, failure.value.what)
    assert log is not None and Path(log.group(1)).is_file()
    assert len(failure.value.what) < 1000
    return failure.value.what


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (signal.SIGSEGV, NATIVE.format(name="SIGSEGV")),
        pytest.param(signal.SIGABRT, NATIVE.format(name="SIGABRT"), marks=pytest.mark.long),
        pytest.param(signal.SIGBUS, NATIVE.format(name="SIGBUS"), marks=pytest.mark.long),
        (signal.SIGKILL, "was ended by signal SIGKILL: from outside, or by the system for want of memory"),
        pytest.param(signal.SIGTERM, "was ended by signal SIGTERM", marks=pytest.mark.long),
        (signal.SIGUSR2, "was ended by signal SIGUSR2"),
    ],
)
def test_the_signal_is_named(
    ray_session: None, number: signal.Signals, expected: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with without_notices():
        said = died(EmulatedBuilder(1, 0.001, 2**10), number)
    assert re.search(expected, said), said
    assert "A worker died" not in "".join(capfd.readouterr())


def test_the_status_is_named_with_the_last_words(ray_session: None) -> None:
    said = died(Leaving(3, at_once=True))
    assert "was ended by os._exit(3): the disk of my dreams is full" in said, said


@pytest.mark.long
def test_an_exit_from_within_a_stage_is_a_failure_of_it(ray_session: None) -> None:
    builders = [EmulatedBuilder(0, 0.001, 2**10), Leaving(4, at_once=False)]
    pipeline = Pipeline(builders, PipelinedConfig(device="cpu", event_interval_s=0.0), ClusterConfig())
    with pytest.raises(StageFailedError, match=r"stage 1 failed at .* \d+: RuntimeError: sys.exit\(4\) was called"):
        with pipeline:
            for _ in pipeline.fit(Program(tiny_source(5000), num_epochs=1000, evaluates=False)):
                pass


def test_a_death_before_training_is_told_of_as_well(ray_session: None) -> None:
    builders = [EmulatedBuilder(index, 0.001, 2**10) for index in range(2)]
    with pytest.raises(ProcessDiedError, match="stage 1 died outside of training: its process was ended by signal"):
        with Pipeline(builders, PipelinedConfig(device="cpu"), ClusterConfig()) as pipeline:
            os.kill(pipeline.process_ids()[1], signal.SIGSEGV)
            pipeline.state()


@pytest.fixture
def crashing() -> Iterator[list[int]]:
    """Lets every process that trains a trial run into a fault, until the test ends."""
    struck: list[int] = []
    over = threading.Event()

    def strike() -> None:
        while not over.wait(0.2):
            for process_id in set(trial_processes()) - set(struck):
                with suppress(ProcessLookupError):
                    os.kill(process_id, signal.SIGSEGV)
                    struck.append(process_id)

    thread = threading.Thread(target=strike)
    thread.start()
    yield struck
    over.set()
    thread.join()


@pytest.mark.long
def test_a_sweep_says_once_how_its_processes_died(
    ray_session: None, tmp_path: Path, crashing: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    items = ("model.width=4", "train.epochs=400", "executor.device=cpu", "tune.scheduler=none", "tune.max_concurrent=1")
    names = (f"tune.folder={tmp_path}", "tune.name=mine", "tune.num_trials=2", "tune.num_lost_retries=1")
    assert main(["tune", "dgl", *names, *items]) == 1
    written = "".join(capfd.readouterr())
    assert len(crashing) == 4, "each trial is tried twice"
    lines = [line for line in written.splitlines() if "SIGSEGV" in line]
    assert len(lines) == 2 and all("lost" in line and re.search(LOG, line) for line in lines), written
    assert all("lost 2 times" in line for line in lines)
    assert "raylet" not in written and "Traceback" not in written and "worker died" not in written, written
    outcomes = [outcome_of(trial) for trial in open_study(read_request(tmp_path / "mine")).trials]
    assert [outcome and outcome.kind for outcome in outcomes] == ["lost", "lost"]
