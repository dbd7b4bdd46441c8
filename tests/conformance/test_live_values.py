"""Networks in which several values are alive at a cut are chains, too: same values, statistics and gradients."""

import copy
from collections.abc import Callable, Iterator, Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd.engine.blueprint import Blueprint
from isograd.errors import BackboneError, IsogradError
from isograd.local.method import METHODS
from isograd.local.module import Given
from isograd.models import timm
from isograd.models.assembly import assemble
from isograd.models.backbone import MAIN, Backbone, Classifier, run_unit
from isograd.models.chain import chain
from tests.fields import classification
from tests.runs import config

SHAPE, NUM_CLASSES, SEED = (3, 32, 32), 10, 7


def double(in_channels: int, out_channels: int) -> nn.Module:
    """Two convolutions, kept whole."""
    layers = [nn.Conv2d(in_channels, out_channels, 3, 1, 1), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
    return Whole(*layers, nn.Dropout(0.1), nn.Conv2d(out_channels, out_channels, 3, 1, 1), nn.BatchNorm2d(out_channels))


class Whole(nn.Sequential):
    """A block, as opposed to a plain sequence of blocks."""


class Head(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, NUM_CLASSES)

    def forward(self, value: Tensor) -> Tensor:
        return self.fc(value.mean((2, 3)))


class UNet(nn.Module):
    """Long skips: what each level of the encoder writes is read by the decoder's, last by the first."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([double(3, 4), double(4, 8), double(8, 12), double(12, 16)])
        self.bottom = double(16, 16)
        self.up = nn.ModuleList([double(12, 4), double(20, 8), double(28, 12)])
        self.head = Head(4)

    def forward(self, images: Tensor) -> Tensor:
        skips = [F.relu(self.down[0](images), inplace=True)]
        for block in self.down[1:]:
            skips.append(F.relu(block(F.max_pool2d(skips[-1], 2)), inplace=True))
        value = F.relu(self.bottom(skips.pop()), inplace=True)
        for block, skip in zip(reversed(self.up), reversed(skips), strict=True):
            value = F.relu(block(torch.cat([F.interpolate(value, size=skip.shape[-2:]), skip], 1)), inplace=True)
        return self.head(value)


class DenseLike(nn.Module):
    """Every layer reads what all layers before it have written."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8 + 4 * i) for i in range(6))
        self.layers = nn.ModuleList(nn.Conv2d(8 + 4 * i, 4, 3, 1, 1) for i in range(6))
        self.head = Head(32)

    def forward(self, images: Tensor) -> Tensor:
        features = [self.stem(images)]
        for norm, layer in zip(self.norms, self.layers, strict=True):
            features.append(layer(F.relu(norm(torch.cat(features, 1)), inplace=True)))
        return self.head(torch.cat(features, 1))


class TwoBranches(nn.Module):
    """A fine and a coarse branch beside each other, exchanged once, joined at the end; the images are read by both."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.ModuleList([double(3, 8), double(8, 8)])
        self.coarse = nn.ModuleList([double(3, 16), double(24, 16)])
        self.head = Head(24)

    def forward(self, images: Tensor) -> Tensor:
        fine, coarse = self.fine[0](images), F.avg_pool2d(self.coarse[0](images), 2)
        joined = torch.cat([F.avg_pool2d(fine, 2), coarse], 1)
        fine, coarse = self.fine[1](fine), self.coarse[1](joined)
        return self.head(torch.cat([fine, F.interpolate(coarse, scale_factor=2.0)], 1))


class Pyramid(nn.Module):
    """A chain with a neck over four of its values, as a feature pyramid has it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleList([double(3, 8), double(8, 12), double(12, 16), double(16, 24)])
        self.lateral = nn.ModuleList(nn.Conv2d(channels, 12, 1) for channels in (8, 12, 16, 24))
        self.smooth = nn.Conv2d(12, 12, 3, 1, 1)
        self.fc = nn.Linear(12, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        value, values = images, []
        for block in self.body:
            value = F.max_pool2d(block(value), 2)
            values.append(value)
        top = self.lateral[3](values[3])
        for level in (2, 1, 0):
            top = self.lateral[level](values[level]) + F.interpolate(top, scale_factor=2.0)
        return self.fc(self.smooth(top).flatten(2).mean(-1))


class Overwriting(UNet):
    """Writes in place into a value that is to be read again, long after it was made."""

    def forward(self, images: Tensor) -> Tensor:
        skips = [self.down[0](images)]
        for block in self.down[1:]:
            skips.append(block(F.interpolate(skips[-1], scale_factor=0.5)))
        value = self.bottom(F.relu(skips.pop(), inplace=True))
        for block, skip in zip(reversed(self.up), reversed(skips), strict=True):
            written = F.relu(skip, inplace=True) if skip is skips[1] else skip
            value = block(torch.cat([F.interpolate(value, size=skip.shape[-2:]), written], 1))
        return self.head(value)


def expand(path: str, module: nn.Module) -> bool:
    return type(module) is nn.Sequential


def library(architecture: str) -> nn.Module:
    config = timm.TimmConfig(architecture=architecture, drop_rate=0.1)
    return timm.create(config, input_shape=(3, 64, 64), num_classes=NUM_CLASSES, seed=SEED)


MAKERS: Mapping[str, Callable[[], nn.Module]] = {
    **{kind.__name__: kind for kind in (UNet, DenseLike, TwoBranches, Pyramid, Overwriting)},
    **{name: lambda name=name: library(name) for name in ("hrnet_w18_small", "efficientvim_m1")},
}


def build(model: nn.Module, shape: tuple[int, int, int] = SHAPE) -> Backbone:
    is_ours = type(model).__module__ == __name__
    wanted = Classifier("image", shape, "logits", NUM_CLASSES)
    links = chain("net", model, expand if is_ours else timm._expand(model), wanted)
    return assemble("net", links, **classification(shape, NUM_CLASSES))


@pytest.fixture(scope="module", params=MAKERS)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[nn.Module, nn.Module, Backbone, Tensor]]:
    """A network, a copy of it, the backbone that shares the copy's weights, and images."""
    torch.manual_seed(SEED)
    model = MAKERS[request.param]()
    shape = SHAPE if type(model).__module__ == __name__ else (3, 64, 64)
    twin = copy.deepcopy(model)
    yield model, twin, build(twin, shape), torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))


def run(backbone: Backbone, images: Tensor) -> Tensor:
    """Runs unit after unit; nothing but what is alive is handed on, and nobody writes into it."""
    values: Mapping[str, Tensor] = {"image": images}
    for position, unit in enumerate(backbone.units):
        versions = [value._version for value in values.values()]
        live = {**values, **run_unit(unit.module, unit.reads, unit.writes, values)}
        assert versions == [value._version for value in values.values()], f"{unit.name} writes into a value"
        values = {name: live[name] for name in backbone.live(position + 1)}
        assert {name: tuple(value.shape[1:]) for name, value in values.items()} == {
            name: feature.shape for name, feature in backbone.live(position + 1).items()
        }
    return values["logits"]


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_values_statistics_and_gradients_are_the_networks(
    pair: tuple[nn.Module, nn.Module, Backbone, Tensor], training: bool
) -> None:
    model, twin, backbone, images = pair
    logits: list[Tensor] = []
    for network, forward in ((model, model), (twin, lambda images: run(backbone, images))):
        network.train(training)
        for unit in backbone.units:
            unit.module.train(training)
        network.zero_grad()
        torch.manual_seed(SEED)
        logits.append(forward(images))
        logits[-1].square().sum().backward()
    assert torch.equal(*logits)
    theirs, ours = dict(model.named_parameters()), dict(twin.named_parameters())
    for name, parameter in theirs.items():
        gradient = ours[name].grad
        assert parameter.grad is not None and gradient is not None and torch.equal(parameter.grad, gradient), name
    ours = dict(twin.named_buffers())
    assert all(torch.equal(buffer, ours[name]) for name, buffer in model.named_buffers())


def test_nothing_crosses_a_cut_that_no_later_unit_reads(pair: tuple[nn.Module, nn.Module, Backbone, Tensor]) -> None:
    backbone = pair[2]
    several = 0
    for position in range(1, len(backbone.units)):
        live = backbone.live(position)
        for name in live:
            later = backbone.units[position:]
            reader = next((at for at, unit in enumerate(later) if name in unit.reads), None)
            assert reader is not None and all(name not in unit.writes for unit in later[:reader]), name
        assert next(iter(live)) == backbone.units[position - 1].writes[0] == MAIN
        several += len(live) > 1
    assert several


def test_a_network_with_long_skips_is_cut_between_its_blocks() -> None:
    backbone = build(UNet())
    units = [(unit.name, unit.reads, unit.writes) for unit in backbone.units]
    assert units == [
        ("down.0", ("image",), ("x",)),
        ("down.1", ("x",), ("x", "down.0")),
        ("down.2", ("x",), ("x", "down.1")),
        ("down.3", ("x",), ("x", "down.2")),
        ("bottom", ("x",), ("x",)),
        ("up.2", ("x", "down.2"), ("x",)),
        ("up.1", ("x", "down.1", "down.0"), ("x",)),  # joined with the longest skip: one value is less than two
        ("up.0", ("x",), ("x",)),
        ("head", ("x",), ("logits",)),
    ]
    assert list(backbone.live(4)) == ["x", "down.2", "down.1", "down.0"]
    assert backbone.live(4)["down.0"].shape == (4, 32, 32)


def test_every_layer_of_a_dense_network_is_a_unit() -> None:
    backbone = build(DenseLike())
    assert [unit.name for unit in backbone.units] == ["stem", *(f"layers.{layer}" for layer in range(6)), "head"]
    assert list(backbone.live(4)) == ["x", "layers.1", "layers.0", "stem"]


def test_the_images_themselves_may_cross_a_cut() -> None:
    assert list(build(TwoBranches()).live(1)) == ["x", "image"]


def test_what_is_written_into_later_does_not_cross_a_cut() -> None:
    assert [unit.name for unit in build(Overwriting()).units] == ["down.0", "down.1", "up.1", "up.0", "head"]


class Tangled(nn.Module):
    """Passes on a table of numbers beside the map, from one block to the last."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(double(3 if i == 0 else 8, 8) for i in range(4))
        self.head = Head(8)

    def forward(self, images: Tensor) -> Tensor:
        value, order = images, images.mean((1, 2, 3)).argsort()
        for block in self.blocks:
            value = block(value)
        return self.head(value[order])


def test_values_that_no_channel_carries_are_a_reason_to_refuse() -> None:
    with pytest.raises(BackboneError, match=r"a tensor of shape \(2,\) for 2 samples, of torch.int64") as caught:
        build(Tangled())
    assert len(caught.value.args) == 3 and all(caught.value.args)


@pytest.mark.parametrize("method", list(METHODS))
def test_a_method_trains_between_several_live_values_or_says_why_not(
    pair: tuple[nn.Module, nn.Module, Backbone, Tensor], method: str
) -> None:
    backbone, (_, *shape) = pair[2], pair[3].shape
    for num_modules in {3, len(backbone.units)}:
        options = (f"method={method}", "partition=even", f"data.image_shape={shape}".replace(" ", ""))
        plan = Blueprint(config(*options))
        num_modules = min(num_modules, plan.method.max_num_modules or num_modules)
        plan = Blueprint(config(*options, f"partition.num_modules={num_modules}"))
        vars(plan)["backbone"] = copy.deepcopy(backbone)
        try:
            plan.check()
        except IsogradError as refusal:
            assert len(refusal.args) == 3 and all(refusal.args)
            continue
        step(plan, tuple(shape))


def step(plan: Blueprint, shape: tuple[int, ...]) -> None:
    """Runs every local module, and every loss back through it."""
    values: Mapping[str, Tensor] = {"image": torch.zeros(2, *shape, dtype=torch.uint8)}
    given = Given({"label": torch.arange(2)}, values)
    for module in plan.method.local_modules(plan.partition, seed=SEED):
        live = module(values)
        for objective in (module.objective, module.cascade):
            loss = objective(live, given).loss
            if loss is not None:
                loss.backward(retain_graph=True)
        values = {name: value.detach() for name, value in live.items()}
