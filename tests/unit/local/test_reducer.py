"""Gradients are handed to other workers once, when they are whole, and are the mean before anything uses them."""

import pytest
import torch
from torch import Tensor

from isograd.engine.blueprint import Blueprint
from isograd.executors.sequential import SequentialExecutor
from isograd.local.module import LocalModule
from tests.runs import config, differences, program, trained

SMALL = ("model=resnet20", "model.width=4", "executor=sequential", "partition.num_modules=4", "precision.clip_norm=0.1")


def gradients_of(module: LocalModule) -> dict[str, Tensor]:
    return {name: weight.grad.clone() for name, weight in module.named_parameters() if weight.grad is not None}


class Recorded:
    """Averages among one worker, and notes what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.begun: dict[int, dict[str, Tensor]] = {}

    def begin(self, module: LocalModule) -> None:
        self.calls.append(("begin", module.index))
        self.begun[module.index] = gradients_of(module)

    def finish(self, module: LocalModule) -> None:
        self.calls.append(("finish", module.index))
        begun, now = self.begun.pop(module.index), gradients_of(module)
        assert begun.keys() == now.keys() and all(torch.equal(begun[name], now[name]) for name in now)


@pytest.mark.parametrize("method", ["dgl", "hpff", "mlaan", "man"])
def test_every_module_is_reduced_once_a_step_when_its_gradients_are_whole(method: str) -> None:
    blueprint = Blueprint(config(*SMALL, f"method={method}"))
    recorded, num_modules = Recorded(), blueprint.partition.num_modules
    with SequentialExecutor(blueprint) as executor:
        for learner in executor.stage.learners:
            learner.reducer = recorded
        list(executor.fit(program(blueprint, max_steps=2)))
        found = executor.state()
    each = {("begin", module) for module in range(num_modules)} | {("finish", module) for module in range(num_modules)}
    for step in (recorded.calls[: 2 * num_modules], recorded.calls[2 * num_modules :]):
        assert set(step) == each and len(step) == len(each)
    assert differences(found, trained(*SMALL, f"method={method}", max_steps=2)) == []
