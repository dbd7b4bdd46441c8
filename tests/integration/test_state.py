"""A state that is loaded is the whole state: weights, optimizer, metrics and what is under way."""

import pytest
import torch

from isograd.engine.blueprint import Blueprint
from isograd.errors import CheckpointError
from isograd.executors.hosts import Hosts
from tests.runs import config, differences, opened, program

SMALL = ("model=resnet20", "model.width=4", "partition.num_modules=4", "data.image_shape=[3,16,16]")
EXECUTORS = {"sequential": ("executor=sequential",), "pipelined": ("executor.num_stages=2",)}
METHODS = {
    "dgl": ("method=dgl",),
    "man, lag, adamw": ("method=man", "method.lag=2", "method.decay=0.9", "optimizer=adamw"),
    "mlaan, no momentum": ("method=mlaan", "method.decay=0.9", "optimizer.momentum=0", "optimizer.nesterov=false"),
}


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("method", METHODS)
def test_training_again_from_a_state_is_the_same(actors: Hosts, executor: str, method: str) -> None:
    blueprint = Blueprint(config(*SMALL, *EXECUTORS[executor], *METHODS[method]))
    with opened(blueprint, actors) as executing:
        initial, ends = executing.state(), []
        for _ in range(2):
            executing.load_state(initial)
            assert differences(initial, executing.state()) == []
            list(executing.fit(program(blueprint, max_steps=5)))
            ends.append(executing.state())
    assert differences(*ends) == []
    assert differences(initial, {name: ends[0][name] for name in initial}) != []


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_state_that_does_not_fit_is_refused_and_not_loaded(actors: Hosts, executor: str) -> None:
    with opened(Blueprint(config(*SMALL, *EXECUTORS[executor], "method=dgl")), actors) as executing:
        initial, name = executing.state(), "backbone.layer2.0.conv1.weight"
        zeros = {key: torch.zeros_like(tensor) for key, tensor in initial.items()}
        wrong = {
            "is missing": {key: tensor for key, tensor in zeros.items() if key != name},
            "has shape (1,), not (8, 4, 3, 3)": zeros | {name: torch.zeros(1)},
            "Did you mean 'backbone.layer2.0.conv1.weight'": zeros | {f"{name}s": torch.zeros(1)},
            "'optimizer.backbone.nothing.momentum_buffer' is no tensor": zeros
            | {"optimizer.backbone.nothing.momentum_buffer": torch.zeros(1)},
        }
        for said, state in wrong.items():
            with pytest.raises(CheckpointError) as caught:
                executing.load_state(state)
            assert said in str(caught.value)
            assert differences(initial, executing.state()) == []
