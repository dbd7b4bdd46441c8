"""What every method promises. A new file in `methods/` is covered as soon as it registers itself."""

import dataclasses
import itertools
import pickle
from dataclasses import replace

import pytest
import torch

from isograd.channels.outbox import Nowhere
from isograd.config.load import from_dict
from isograd.engine.blueprint import Blueprint
from isograd.engine.config import to_dict
from isograd.engine.stage import Stage
from isograd.events.events import EpochRecord
from isograd.executors.hosts import Hosts
from isograd.local.message import Kind, Message
from isograd.local.method import METHODS
from isograd.local.module import Given, LocalModule
from isograd.models.backbone import Feature
from isograd.tasks.heads import VECTOR_HEADS
from tests.runs import config, differences, trained

BACKBONES = {
    "resnet": ("model=resnet20", "model.width=4"),
    "vit": ("model=vit_ti", "model.width=24", "model.depth=4", "model.patch_size=8", "optimizer=adamw"),
}


def blueprint(method: str, backbone: str, *overrides: str) -> Blueprint:
    return Blueprint(config(f"method={method}", *BACKBONES[backbone], *overrides))


def num_modules(method: str, wanted: int = 3) -> int:
    return min(wanted, blueprint(method, "resnet").method.max_num_modules or wanted)


def cut(method: str, wanted: int = 3) -> str:
    return f"partition.num_modules={num_modules(method, wanted)}"


def batch(size: int = 6) -> Message:
    pixels = torch.randint(0, 256, (size, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    target = torch.arange(size) % 3
    image, label = {"image": pixels}, {"label": target}
    return Message(Kind.TRAIN, epoch=1, size=size, values=image, targets=label, inputs=image)


def walk(modules: list[LocalModule], message: Message) -> list[tuple[LocalModule, torch.Tensor]]:
    """Runs all modules in order, each on the detached output of the one before; returns their losses."""
    losses = []
    for module in modules:
        live = module(message.values)
        for objective in (module.objective, module.cascade):
            loss = objective(live, Given(message.targets, message.inputs)).loss
            if loss is not None:
                losses.append((module, loss))
        message = message.carrying({name: value.detach() for name, value in live.items()})
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
    plan = blueprint(
        method, backbone, cut(method), "lr_schedule=constant", "optimizer.lr=0.003", "checkpoint.every_epochs=0"
    )
    device = torch.device("cpu")
    modules = range(plan.partition.num_modules)
    stage = Stage(0, plan.learners(modules, device), Nowhere(), device=device, routes=plan.routes([modules]))
    steps = [replace(batch(), step=step, epoch=step + 1) for step in range(15)]
    messages = [item for step in steps for item in (step, Message(Kind.EPOCH, step.epoch, step=step.step + 1))]
    losses: dict[int, list[float]] = {}
    for event in stage.run(messages):
        if isinstance(event, EpochRecord) and event.loss is not None:
            losses.setdefault(event.module, []).append(event.loss)
    assert plan.partition.num_modules - 1 in losses
    assert all(found[-1] < found[0] for found in losses.values())


@each_method
@each_backbone
def test_initial_weights_do_not_depend_on_the_cut(method: str, backbone: str) -> None:
    found = []
    for wanted in (1, 2, 4):
        plan = blueprint(method, backbone, cut(method, wanted))
        found.append([module.parts() for module in plan.method.local_modules(plan.partition, seed=0)])
    first, *others = [
        {name: dict(part.named_parameters()) for parts in modules for name, part in parts} for modules in found
    ]
    for other in others:
        assert {name for name in first if name.startswith("backbone.")} <= set(other)
    for one, other in itertools.combinations((first, *others), 2):
        for name in set(one) & set(other):
            if shapes(one[name]) == shapes(other[name]):  # some methods' networks depend on depth, or on the window
                assert all(torch.equal(weight, other[name][key]) for key, weight in one[name].items())


def shapes(weights: dict[str, torch.nn.Parameter]) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in weights.items()}


@each_method
def test_heads_predict_classes_or_nothing(method: str) -> None:
    plan = blueprint(method, "resnet", cut(method))
    message = batch()
    for module in plan.method.local_modules(plan.partition, seed=0):
        live = module.eval()(message.values)
        prediction = module.predict(live)
        assert prediction is None or prediction["logits"].shape == (6, 10)
        message = message.carrying({name: value.detach() for name, value in live.items()})


@each_method
def test_configuration_survives_pickling_and_files(method: str) -> None:
    configuration = config(f"method={method}")
    assert pickle.loads(pickle.dumps(configuration)) == configuration
    assert from_dict(to_dict(configuration)).method == configuration.method
    assert dataclasses.is_dataclass(METHODS.get(method).Config)
    assert METHODS.get(method).__doc__


@each_method
def test_pipelined_equals_sequential(actors: Hosts, method: str) -> None:
    options = (f"method={method}", *BACKBONES["resnet"], cut(method))
    stages = f"executor.num_stages={num_modules(method, 2)}"
    pipelined = trained(stages, *options, max_steps=8, actors=actors)
    assert differences(trained("executor=sequential", *options, max_steps=8), pipelined) == []


FEATURES = {
    "map": (Feature((12, 8, 8), "NCHW"), (5, 12, 8, 8)),
    "small map": (Feature((12, 2, 2), "NCHW"), (5, 12, 2, 2)),
    "odd map": (Feature((12, 7, 5), "NCHW"), (5, 12, 7, 5)),
    "channels last map": (Feature((8, 8, 12), "NHWC"), (5, 8, 8, 12)),
    "tokens": (Feature((17, 12), "NLC", 1), (5, 17, 12)),
    "tokens without class token": (Feature((16, 12), "NLC"), (5, 16, 12)),
    "tokens of an oblong image": (Feature((7, 12), "NLC", 1, (2, 3)), (5, 7, 12)),
}


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("name", list(VECTOR_HEADS))
def test_auxiliary_networks_take_any_feature(name: str, feature: str) -> None:
    description, shape = FEATURES[feature]
    options = {"last_channels": 24} if name.endswith("f") else {}
    network = VECTOR_HEADS.get(name)(description, 10, **options)
    value = torch.randn(shape, requires_grad=True)
    prediction = network(value)
    assert prediction.shape == (5, 10)
    prediction.square().sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())
