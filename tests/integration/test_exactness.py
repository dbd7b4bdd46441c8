"""The flagship: the pipeline of Ray actors equals the sequential run, bit for bit.

Every weight, buffer, optimizer state and running metric after 22 steps in two epochs, each with a smaller last batch.
"""

from functools import cache

import pytest
from torch import Tensor

from tests.runs import differences, trained

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
