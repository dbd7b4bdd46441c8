"""A module's gradient is that of the losses that train it, computed the plain way, to the last bit.

The plain way runs every window of modules anew, with autograd through it, as the papers' released codes do.
"""

import pytest
import torch
from torch import Tensor

from isograd.channels.outbox import Nowhere
from isograd.data.field import Tree
from isograd.engine.blueprint import Blueprint
from isograd.engine.stage import Stage
from isograd.local.message import Kind, Message
from isograd.local.module import Given, LocalModule, Objective
from tests.runs import config

CASES = {
    "hpff 2": ("method=hpff", "method.window=2"),
    "hpff 3": ("method=hpff", "method.window=3", "method.level_weights=[0.3,0.7]"),
    "hpff all": ("method=hpff", "method.window=4", "method.first_loss=true"),
    "hpff last alone": ("method=hpff", "method.window=3", "method.last_window=false", "method.patches=none"),
    "mlaan 2": ("method=mlaan", "method.window=2", "method.base=infopro"),
    "mlaan 3": ("method=mlaan", "method.window=3"),
    "mlaan 3, both levels last": ("method=mlaan", "method.window=3", "method.lam=false", "method.last_loss=levels"),
    "mlaan without leaps": ("method=mlaan", "method.lam=false"),
    "mlaan without windows": ("method=mlaan", "method.mlm=false"),
}
COMMON = (
    *("model=resnet20", "model.width=4", "partition.num_modules=4"),
    *("executor=sequential", "optimizer.weight_decay=0", "lr_schedule=constant"),
)


def batch() -> Message:
    pixels = torch.randint(0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    image = {"image": pixels}
    return Message(Kind.TRAIN, 1, size=6, values=image, targets={"label": torch.arange(6) % 3}, inputs=image)


def plain_gradients(modules: list[LocalModule], plan: Blueprint, message: Message) -> dict[str, Tensor]:
    inputs = [message.values]
    for module in modules:
        inputs.append({name: value.detach() for name, value in module(inputs[-1]).items()})
    for index, module in enumerate(modules):
        reach = max(plan.method.reach(plan.partition, index), 1)
        for objective, first in ((module.objective, index), (module.cascade, max(index - reach + 1, 0))):
            learn(objective, modules[first : index + 1], inputs[first], message)
    return {
        name: weight.grad
        for module in modules
        for name, weight in module.named_weights().items()
        if weight.grad is not None
    }


def learn(objective: Objective, window: list[LocalModule], values: Tree, message: Message) -> None:
    for module in window:
        values = module(values)
    loss = objective(values, Given(message.targets, message.inputs)).loss
    if loss is not None:
        loss.backward()


@pytest.mark.parametrize("case", CASES)
def test_gradients_equal_those_of_plain_autograd(case: str) -> None:
    device, plan = torch.device("cpu"), Blueprint(config(*COMMON, *CASES[case]))
    learners = plan.learners(range(4), device)
    modules = [learner.module.train() for learner in learners]
    expected = plain_gradients(modules, plan, batch())
    for module in modules:
        module.zero_grad(set_to_none=True)
    stage = Stage(0, learners, Nowhere(), device=device, routes=plan.routes([range(4)]))
    list(stage.run([batch()]))
    state = stage.state()  # after one step of SGD, the momentum buffer is the gradient
    found = {name: state[f"optimizer.{name}.momentum_buffer"] for name in expected}
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient), name
    assert len(expected) == sum(name.startswith("optimizer.") for name in state)


def test_weights_do_not_learn_from_losses_beyond_their_window() -> None:
    plan = Blueprint(config(*COMMON, "method=hpff", "method.window=2"))
    windows = [plan.method.window(plan.partition, index) for index in range(4)]
    assert [(window.sends, dict(window.passes)) for window in windows] == [
        (False, {1: False}),
        (True, {2: False}),
        (True, {3: False}),
        (True, {}),
    ]


def test_a_window_of_three_passes_gradients_on() -> None:
    plan = Blueprint(config(*COMMON, "method=hpff", "method.window=3"))
    windows = [plan.method.window(plan.partition, index) for index in range(4)]
    assert [(window.sends, dict(window.passes)) for window in windows] == [
        (False, {2: False}),
        (False, {2: True, 3: False}),
        (True, {3: True}),
        (True, {}),
    ]
