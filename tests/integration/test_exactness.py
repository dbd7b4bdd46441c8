"""The flagship: the pipeline of Ray actors equals the sequential run, bit for bit.

Every weight, buffer, optimizer state and running metric after 22 steps in two epochs, each with a smaller last batch.
"""

from functools import cache

import pytest
from isograd.executor.blueprint import Blueprint
from isograd.executor.executor import make_executor
from isograd.report.events import ModuleMetrics
from torch import Tensor

from tests.runs import config, differences, program, trained

RESNET = ("model=resnet32", "model.drop_rate=0.1", "data.image_shape=[3,16,16]")
VIT = ("model=vit_ti", "model.width=48", "model.patch_size=8", "model.drop_rate=0.1", "model.drop_path_rate=0.2")
VIT_OPTIMIZER = ("optimizer=adamw", "schedule=cosine")

CASES = [
    *[(("method=dgl", *RESNET, f"partition.num_modules={k}"), s) for k, s in ((2, 2), (4, 3), (8, 2), (16, 4))],
    *[(("method=infopro", *RESNET, f"partition.num_modules={k}"), s) for k, s in ((2, 2), (4, 4), (8, 3), (16, 2))],
    (("method=infopro", "method.loss=contrast", *RESNET, "partition.num_modules=4"), 2),
    *[(("method=dgl", *VIT, *VIT_OPTIMIZER, "partition.num_modules=4"), s) for s in (2, 3, 4)],
    *[(("method=infopro", *VIT, *VIT_OPTIMIZER, "partition.num_modules=4"), s) for s in (2, 3, 4)],
    (("method=infopro", "model=resnet20", "precision.dtype=bfloat16", "partition.num_modules=3"), 2),
    (("method=dgl", "model=resnet20", "precision.channels_last=true", "precision.clip_norm=0.5"), 2),
]


@cache
def sequential(overrides: tuple[str, ...]) -> dict[str, Tensor]:
    return trained("executor=sequential", *overrides)


@pytest.mark.parametrize(("overrides", "num_stages"), CASES, ids=lambda value: str(value)[:70])
def test_pipelined_equals_sequential(ray_session: None, overrides: tuple[str, ...], num_stages: int) -> None:
    pipelined = trained("executor=pipelined", f"executor.num_stages={num_stages}", *overrides)
    assert differences(sequential(overrides), pipelined) == []


def test_evaluation_goes_through_the_pipeline_and_says_the_same(ray_session: None) -> None:
    options = ("model=resnet20", "model.width=4", "partition.num_modules=3")
    metrics = []
    for executor in ("executor=sequential", "executor.num_stages=2"):
        blueprint = Blueprint(config(executor, *options))
        with make_executor(blueprint) as executing:
            before = executing.state()
            found = [event for event in executing.evaluate(program(blueprint)) if isinstance(event, ModuleMetrics)]
            assert differences(before, executing.state()) == []
        metrics.append(sorted((event.module, event.num_images, event.accuracy) for event in found))
    assert metrics[0] == metrics[1]
    assert [count for _, count, _ in metrics[0]] == [24, 24, 24]
