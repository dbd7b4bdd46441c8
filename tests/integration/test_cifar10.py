"""Real photographs: the pipeline equals the sequential run on CIFAR-10, from Parquet, where the data set is there."""

from pathlib import Path

import pytest
from torch import Tensor

from isograd.config.load import load
from isograd.data.batch import Source
from isograd.data.dataset import dataset_of
from isograd.engine.blueprint import Blueprint
from isograd.engine.program import Program
from isograd.executors.executor import Opener, make_executor
from isograd.executors.hosts import Hosts
from tests.runs import differences

CIFAR10 = Path(__file__).parents[3] / "shared" / "data" / "cifar10"


OPTIONS = ("model=resnet32", "data=cifar10", "partition.num_modules=8", "data.batch_size=16", "data.window=1000")


def trained(executor: str, source: Source, opener: Opener) -> dict[str, Tensor]:
    blueprint = Blueprint(load([*OPTIONS, f"executor={executor}"]))
    program = Program(source, num_epochs=1, max_steps=3, evaluates=False)
    with opener(blueprint, program.source.held_bytes, 0) as executing:
        for _ in executing.fit(program):
            pass
        return executing.state()


@pytest.mark.skipif(not CIFAR10.is_dir(), reason=f"there is no CIFAR-10 in {CIFAR10}")
@pytest.mark.long
@pytest.mark.parametrize("loading", ["memory", "stream"])
def test_pipelined_equals_sequential_on_photographs(actors: Hosts, loading: str) -> None:
    source = dataset_of(load([*OPTIONS, f"data.loading={loading}", f"data.path={CIFAR10}"]).data).open(seed=0)
    alone = trained("sequential", source, make_executor)
    assert differences(alone, trained("pipelined", source, actors.open)) == []
