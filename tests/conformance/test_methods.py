"""What every method promises. A new file in `methods/` is covered as soon as it registers itself."""

import dataclasses
import pickle

import pytest
import torch
from isograd.config.load import from_dict, to_dict
from isograd.executor.blueprint import Blueprint
from isograd.local.auxiliary import AUXILIARY
from isograd.local.message import Kind, Message
from isograd.local.method import METHODS
from isograd.local.module import LocalModule
from isograd.local.step import Learner, train_step
from isograd.models.backbone import Feature

from tests.runs import config, differences, trained

BACKBONES = {
    "resnet": ("model=resnet20", "model.width=4"),
    "vit": ("model=vit_ti", "model.width=24", "model.depth=4", "model.patch_size=8", "optimizer=adamw"),
}


def blueprint(method: str, backbone: str, *overrides: str) -> Blueprint:
    return Blueprint(config(f"method={method}", *BACKBONES[backbone], *overrides))


def num_modules(method: str, wanted: int = 3) -> int:
    return min(wanted, METHODS.get(method).max_num_modules or wanted)


def cut(method: str, wanted: int = 3) -> str:
    return f"partition.num_modules={num_modules(method, wanted)}"


def batch(size: int = 6) -> Message:
    pixels = torch.randint(0, 256, (size, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    target = torch.arange(size) % 3
    return Message(Kind.TRAIN, epoch=1, value=pixels, target=target, pixels=pixels)


def walk(modules: list[LocalModule], message: Message) -> list[tuple[LocalModule, torch.Tensor]]:
    """Runs all modules in order, each on the detached output of the one before; returns their losses."""
    losses = []
    for module in modules:
        assert message.value is not None and message.target is not None
        feature = module(message.value)
        losses.append((module, module.objective(feature, message.target, message.pixels).loss))
        message = message.carrying(feature.detach())
    return losses


each_method = pytest.mark.parametrize("method", list(METHODS))
each_backbone = pytest.mark.parametrize("backbone", list(BACKBONES))


@each_method
@each_backbone
def test_no_gradient_crosses_a_cut(method: str, backbone: str) -> None:
    plan = blueprint(method, backbone, cut(method))
    modules = plan.method.local_modules(plan.partition, seed=0)
    for chosen, loss in walk(modules, batch()):
        for module in modules:
            module.zero_grad(set_to_none=True)
        loss.backward(retain_graph=True)
        touched = {module.index for module in modules for w in module.parameters() if w.grad is not None}
        assert touched == {chosen.index}


@each_method
@each_backbone
def test_every_module_learns(method: str, backbone: str) -> None:
    plan = blueprint(method, backbone, cut(method), "schedule=constant", "optimizer.lr=0.003")
    learners = plan.learners(range(plan.partition.num_modules), torch.device("cpu"))
    first, last = losses_of(learners), []
    for _ in range(25):
        last = losses_of(learners)
    assert all(after < before for before, after in zip(first, last, strict=True))


def losses_of(learners: list[Learner]) -> list[float]:
    message, losses = batch(), []
    for learner in learners:
        sent: list[torch.Tensor] = []
        losses.append(float(train_step(learner, message, sent.append).loss))
        message = message.carrying(sent[0])
    return losses


@each_method
@each_backbone
def test_initial_weights_do_not_depend_on_the_cut(method: str, backbone: str) -> None:
    found = []
    for wanted in (1, 2, 4):
        plan = blueprint(method, backbone, cut(method, wanted))
        modules = plan.method.local_modules(plan.partition, seed=0)
        found.append({name: w for module in modules for name, w in module.named_weights().items()})
    for other in found[1:]:
        shared = [name for name in found[0] if name in other]
        assert len([name for name in shared if name.startswith("backbone.")]) == len(found[0])
        assert all(torch.equal(found[0][name], other[name]) for name in shared)


@each_method
def test_heads_predict_classes_or_nothing(method: str) -> None:
    plan = blueprint(method, "resnet", cut(method))
    message = batch()
    for module in plan.method.local_modules(plan.partition, seed=0):
        assert message.value is not None
        feature = module.eval()(message.value)
        prediction = module.objective.predict(feature)
        assert prediction is None or prediction.shape == (6, 10)
        message = message.carrying(feature.detach())


@each_method
def test_configuration_survives_pickling_and_files(method: str) -> None:
    configuration = config(f"method={method}")
    assert pickle.loads(pickle.dumps(configuration)) == configuration
    assert from_dict(to_dict(configuration)).method == configuration.method
    assert dataclasses.is_dataclass(METHODS.get(method).Config)
    assert METHODS.get(method).__doc__


@each_method
def test_pipelined_equals_sequential(ray_session: None, method: str) -> None:
    options = (f"method={method}", *BACKBONES["resnet"], cut(method))
    stages = f"executor.num_stages={num_modules(method, 2)}"
    assert (
        differences(trained("executor=sequential", *options, max_steps=8), trained(stages, *options, max_steps=8)) == []
    )


FEATURES = {
    "map": (Feature((12, 8, 8), "NCHW"), (5, 12, 8, 8)),
    "small map": (Feature((12, 2, 2), "NCHW"), (5, 12, 2, 2)),
    "odd map": (Feature((12, 7, 5), "NCHW"), (5, 12, 7, 5)),
    "channels last map": (Feature((8, 8, 12), "NHWC"), (5, 8, 8, 12)),
    "tokens": (Feature((17, 12), "NLC", 1), (5, 17, 12)),
    "tokens without class token": (Feature((16, 12), "NLC"), (5, 16, 12)),
}


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("name", list(AUXILIARY))
def test_auxiliary_networks_take_any_feature(name: str, feature: str) -> None:
    description, shape = FEATURES[feature]
    network = AUXILIARY.get(name)(description, 10)
    value = torch.randn(shape, requires_grad=True)
    prediction = network(value)
    assert prediction.shape == (5, 10)
    prediction.square().sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())
