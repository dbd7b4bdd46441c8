"""Language models train alike in every executor, bit for bit, and go on after a checkpoint."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from isograd.engine.program import Program
from isograd.errors import PartitionError
from isograd.events.events import EpochRecord, Event
from isograd.executors.executor import check
from isograd.executors.hosts import Hosts
from tests.language import blueprint, write_text
from tests.runs import differences, opened

DROPOUT = "model.drop_rate=0.1"
METHODS = {
    "dgl": ("method=dgl",),
    "infopro": ("method=infopro", "method.lambda1=[10,10]"),
    "man": ("method=man", "method.decay=0.9"),
    "man, infopro": ("method=man", "method.base=infopro", "method.decay=0.9"),
    "glcan": ("method=glcan",),
    "mlaan": ("method=mlaan",),
    "hpff": ("method=hpff", "method.patches=none"),
    "repl": ("method=repl", "method.wraps=dgl", "model.depth=6", "partition.num_modules=2"),
}


EVERYDAY = ("dgl", "infopro", "man")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text"), num_lines=8)


def trained(folder: Path, *overrides: str, actors: Hosts | None = None) -> tuple[dict[str, Tensor], list[Event]]:
    plan = blueprint(DROPOUT, f"data.path={folder}", *overrides)
    program = Program(plan.dataset.open(0), num_epochs=2, max_steps=6, carries_inputs=plan.method.exchange.inputs)
    with opened(plan, actors) as executor:
        events = list(executor.fit(program))
        return executor.state(), events


@pytest.mark.parametrize(
    "method", [*EVERYDAY, *(pytest.param(name, marks=pytest.mark.matrix) for name in METHODS if name not in EVERYDAY)]
)
def test_pipelined_equals_sequential(folder: Path, actors: Hosts, method: str) -> None:
    options = METHODS[method]
    sequential, events = trained(folder, "executor=sequential", *options)
    pipelined, others = trained(folder, "executor.num_stages=2", *options, actors=actors)
    assert differences(sequential, pipelined) == []
    assert records(events) == records(others)


def test_microbatches_equal_whole_batches_but_for_rounding(folder: Path, ray_session: None) -> None:
    options = ("method=e2e", "model.drop_rate=0", "lr_schedule.warmup_steps=0", "optimizer.eps=1e-4")
    whole, _ = trained(folder, "executor=sequential", *options)
    split, _ = trained(folder, "executor=microbatch", "executor.num_microbatches=2", *options)
    weights = [name for name in whole if name.startswith("backbone.")]
    assert len(weights) > 50 and set(weights) < set(split)
    for name in weights:
        torch.testing.assert_close(split[name], whole[name], rtol=1e-3, atol=1e-5)


def test_tied_weights_stay_one_table(folder: Path) -> None:
    state, _ = trained(folder, "executor=sequential", "method=e2e", "model.tied=true")
    assert torch.equal(state["backbone.embed.token.weight"], state["backbone.head.unembed.weight"])
    with pytest.raises(PartitionError, match="share a weight"):
        check(blueprint("method=e2e", "model.tied=true", "executor=microbatch", "executor.num_microbatches=2"))


def records(events: list[Event]) -> dict[Any, Any]:
    """Returns what was measured, by epoch, split and module."""
    found = [event for event in events if isinstance(event, EpochRecord)]
    assert any("bits_per_byte" in record.values for record in found if record.split == "test")
    return {(record.epoch, record.split, record.module): (record.loss, record.values) for record in found}


def test_end_to_end_learns_the_text(folder: Path) -> None:
    plan = blueprint(
        "method=e2e", "executor=sequential", "train.max_steps=40", "optimizer.lr=0.01", f"data.path={folder}"
    )
    with opened(plan) as executor:
        events = list(executor.fit(Program(plan.dataset.open(0), num_epochs=6, max_steps=40)))
    bits = [event.values["bits_per_byte"] for event in events if isinstance(event, EpochRecord)]
    assert bits[-1] < 6 < 7.5 < bits[0]  # of 8, uniformly
