"""The flagship: the pipeline of Ray actors equals the sequential run, bit for bit.

All weights, buffers, optimizer states and running metrics, after steps of two epochs; the last batch of one is small.
"""

from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest
from torch import Tensor

from isograd.channels.channel import CHANNELS
from isograd.engine.blueprint import Blueprint
from isograd.events.events import EpochRecord
from isograd.executors.hosts import Hosts
from tests.runs import config, differences, opened, program, trained

RESNET = ("model=resnet32", "model.drop_rate=0.1", "data.image_shape=[3,16,16]")
VIT = ("model=vit_ti", "model.width=48", "model.patch_size=8", "model.drop_rate=0.1", "model.drop_path_rate=0.2")
VIT_OPTIMIZER = ("optimizer=adamw", "lr_schedule=cosine")

NUM_TRAIN = 44  # images: six steps an epoch, the last one of 4
LENGTH: dict[str, Any] = {"num_train": NUM_TRAIN, "max_steps": 8}
DECAY = "method.decay=0.9"  # so that an average of the wrong weights shows at once

# Every method with its options, among them those that change what is exchanged.
METHODS = {
    "dgl": ("method=dgl",),
    "infopro": ("method=infopro",),
    "man": ("method=man", DECAY),
    "man, infopro, scaled, copied": (
        "method=man",
        "method.base=infopro",
        "method.fusion=scaled",
        "method.init=copy",
        DECAY,
    ),
    "man, lag": ("method=man", "method.lag=2", DECAY),
    "hpff": ("method=hpff",),
    "hpff, infopro, quadrants": ("method=hpff", "method.base=infopro", "method.patches=quadrants"),
    "hpff, window 3": ("method=hpff", "method.window=3"),
    "mlaan": ("method=mlaan", DECAY),
    "mlaan, last average": ("method=mlaan", "method.ema=last", DECAY),
    "mlaan, infopro, window 3, lag": ("method=mlaan", "method.base=infopro", "method.window=3", "method.lag=3", DECAY),
    "mlaan, no windows": ("method=mlaan", "method.mlm=false", DECAY),
    "glcan": ("method=glcan",),
    "auglocal": ("method=auglocal",),
    "repl, man": ("method=repl", "method.wraps=man", "method.options.decay=0.9"),
}
RESNETS = {f"resnet K={k}": (*RESNET, f"partition.num_modules={k}") for k in (3, 4, 8, 16)}
BACKBONES = {**RESNETS, "vit K=4": (*VIT, *VIT_OPTIMIZER, "partition.num_modules=4")}

# What every run of the suite looks at; `pytest -m matrix` looks at all methods on all backbones with S = 2 and 3.
SAMPLE = [
    ("dgl", "resnet K=8", 3),
    ("infopro", "vit K=4", 3),
    ("man", "resnet K=16", 3),
    ("hpff", "resnet K=8", 3),
    ("hpff, window 3", "resnet K=3", 3),
    ("mlaan, infopro, window 3, lag", "resnet K=8", 3),
    ("mlaan, last average", "vit K=4", 3),
    ("man, infopro, scaled, copied", "vit K=4", 2),
    ("man, lag", "resnet K=4", 2),
    ("hpff, infopro, quadrants", "vit K=4", 2),
    ("mlaan", "resnet K=16", 2),
    ("mlaan, no windows", "resnet K=4", 2),
    ("repl, man", "resnet K=3", 2),
]
NUMERICS = {
    "contrast, NCHW, clipped": (
        *("method=infopro", "method.loss=contrast", "model=resnet20", "precision.channels_last=false"),
        "precision.clip_norm=0.5",
    ),
    "bfloat16": ("method=hpff", "model=resnet20", "precision.dtype=bfloat16", "partition.num_modules=3"),
}


@cache
def sequential(overrides: tuple[str, ...]) -> dict[str, Tensor]:
    return trained("executor=sequential", *overrides, **LENGTH)


def check(overrides: tuple[str, ...], num_stages: int, actors: Hosts) -> None:
    stages = f"executor.num_stages={num_stages}"
    pipelined = trained("executor=pipelined", stages, *overrides, **LENGTH, actors=actors)
    assert differences(sequential(overrides), pipelined) == []


@pytest.mark.parametrize(("method", "backbone", "num_stages"), SAMPLE)
def test_pipelined_equals_sequential(actors: Hosts, method: str, backbone: str, num_stages: int) -> None:
    check((*METHODS[method], *BACKBONES[backbone]), num_stages, actors)


@pytest.mark.parametrize("case", NUMERICS)
def test_pipelined_equals_sequential_in_other_numerics(actors: Hosts, case: str) -> None:
    check(NUMERICS[case], 2, actors)


@pytest.mark.parametrize("channel", sorted(set(CHANNELS) - {"store"}))
def test_pipelined_equals_sequential_by_every_channel(actors: Hosts, channel: str) -> None:
    if channel == "direct" and find_spec("nixl") is None:
        pytest.skip("on a CPU Ray's direct transport needs the package nixl")
    overrides = ("method=hpff", "model=resnet20", "partition.num_modules=3", "data.image_shape=[3,16,16]")
    stages = ("executor.num_stages=2", f"executor.channel={channel}")
    pipelined = trained(*stages, *overrides, **LENGTH, actors=actors)
    assert differences(sequential(overrides), pipelined) == []


@pytest.mark.matrix
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_pipelined_equals_sequential_everywhere(actors: Hosts, method: str, backbone: str) -> None:
    if method.startswith("repl") and backbone in ("resnet K=8", "resnet K=16"):
        pytest.skip("no local module has three blocks, so RepL has none to replace")
    for num_stages in (2, 3):
        check((*METHODS[method], *BACKBONES[backbone]), num_stages, actors)


def test_evaluation_goes_through_the_pipeline_and_says_the_same(actors: Hosts) -> None:
    options = ("model=resnet20", "model.width=4", "partition.num_modules=3")
    metrics = []
    for executor in ("executor=sequential", "executor.num_stages=2"):
        blueprint = Blueprint(config(executor, *options))
        with opened(blueprint, actors) as executing:
            before = executing.state()
            found = [event for event in executing.evaluate(program(blueprint)) if isinstance(event, EpochRecord)]
            assert differences(before, executing.state()) == []
        metrics.append(sorted((event.module, event.num_samples, event.values["error"]) for event in found))
    assert metrics[0] == metrics[1]
    assert [count for _, count, _ in metrics[0]] == [24, 24, 24]
