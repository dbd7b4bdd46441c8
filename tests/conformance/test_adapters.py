"""Any timm or torchvision classifier is a chain of units that computes what the network computes, bit for bit."""

import copy
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import timm as timm_library
import torch
import torchvision as torchvision_library
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from isograd.errors import BackboneError, ConfigError, IsogradError, UnknownNameError
from isograd.models import timm, torchvision
from isograd.models.assembly import token_grid
from isograd.models.backbone import MODELS, Backbone, Feature, run_unit
from isograd.models.timm import TimmConfig
from isograd.models.torchvision import TorchvisionConfig
from tests.fields import classification

NUM_CLASSES = 10
SEED = 7
Config = TimmConfig | TorchvisionConfig

# (configuration, image size)
CASES: list[tuple[Config, int]] = [
    (TimmConfig(architecture="resnet18", drop_rate=0.3), 32),
    (TimmConfig(architecture="resnext50_32x4d", drop_path_rate=0.3), 32),
    (TimmConfig(architecture="resnetv2_18"), 32),
    (TimmConfig(architecture="regnetx_002"), 32),
    (TimmConfig(architecture="repvgg_a0"), 32),
    (TimmConfig(architecture="convnext_atto", drop_rate=0.2, drop_path_rate=0.3), 32),
    (TimmConfig(architecture="densenet121", drop_rate=0.2), 32),
    (TimmConfig(architecture="efficientnet_b0", drop_rate=0.2, drop_path_rate=0.2), 32),
    (TimmConfig(architecture="mobilenetv3_small_050"), 32),
    (TimmConfig(architecture="ghostnet_050"), 32),
    (TimmConfig(architecture="dla46_c"), 32),
    (TimmConfig(architecture="xception41"), 32),
    (TimmConfig(architecture="mobilevit_xxs"), 64),
    (TimmConfig(architecture="poolformer_s12"), 32),
    (TimmConfig(architecture="vit_tiny_patch16_224", drop_rate=0.2, drop_path_rate=0.3), 32),
    (TimmConfig(architecture="deit_tiny_patch16_224"), 32),
    (TimmConfig(architecture="beit_base_patch16_224", drop_path_rate=0.3, kwargs={"depth": 3}), 32),
    (TimmConfig(architecture="eva02_tiny_patch14_224"), 28),
    (TimmConfig(architecture="vit_small_patch16_dinov3", kwargs={"depth": 3}), 48),
    (TimmConfig(architecture="swin_tiny_patch4_window7_224", drop_path_rate=0.3), 32),
    (TimmConfig(architecture="mixer_s32_224"), 64),
    (TimmConfig(architecture="xcit_nano_12_p8_224"), 32),
    (TimmConfig(architecture="cait_xxs24_224"), 32),
    (TimmConfig(architecture="levit_128s"), 64),
    (TimmConfig(architecture="mvitv2_tiny"), 32),
    (TimmConfig(architecture="hrnet_w18_small"), 64),
    (TimmConfig(architecture="efficientvim_m1"), 64),
    (TimmConfig(architecture="nest_tiny", drop_path_rate=0.2), 224),
    (TorchvisionConfig(architecture="resnet18"), 32),
    (TorchvisionConfig(architecture="resnext50_32x4d"), 32),
    (TorchvisionConfig(architecture="regnet_y_400mf"), 32),
    (TorchvisionConfig(architecture="convnext_tiny", drop_path_rate=0.3), 32),
    (TorchvisionConfig(architecture="densenet121", drop_rate=0.2), 32),
    (TorchvisionConfig(architecture="efficientnet_b0", drop_rate=0.2, drop_path_rate=0.2), 32),
    (TorchvisionConfig(architecture="mobilenet_v2"), 32),
    (TorchvisionConfig(architecture="mobilenet_v3_small"), 32),
    (TorchvisionConfig(architecture="mnasnet0_5"), 32),
    (TorchvisionConfig(architecture="shufflenet_v2_x0_5"), 32),
    (TorchvisionConfig(architecture="squeezenet1_1", drop_rate=0.5), 32),
    (TorchvisionConfig(architecture="vit_b_16", drop_rate=0.1), 32),
    (TorchvisionConfig(architecture="swin_t", drop_path_rate=0.2), 32),
    (TorchvisionConfig(architecture="googlenet", kwargs={"aux_logits": False, "init_weights": False}), 32),
]
LARGE = (TorchvisionConfig(architecture="vgg11_bn", drop_rate=0.5), 32)  # 129 million parameters

RESNET50 = ["stem", *(f"layer{s}.{b}" for s, n in enumerate((3, 4, 6, 3), start=1) for b in range(n)), "head"]


def _module(config: Config) -> Any:
    return timm if isinstance(config, TimmConfig) else torchvision


def _create(config: Config, shape: tuple[int, int, int] = (3, 32, 32), seed: int = SEED) -> nn.Module:
    return _module(config).create(config, input_shape=shape, num_classes=NUM_CLASSES, seed=seed)


def _build(config: Config, shape: tuple[int, int, int] = (3, 32, 32), seed: int = SEED) -> Backbone:
    return _module(config).build(config, **classification(shape, NUM_CLASSES), seed=seed)


def _names(config: Config, size: int = 32) -> list[str]:
    return [unit.name for unit in _build(config, (3, size, size)).units]


def _refusal(config: Config, kind: type[IsogradError], shape: tuple[int, int, int] = (3, 32, 32)) -> str:
    with pytest.raises(kind) as caught:
        _build(config, shape)
    assert type(caught.value) is kind
    assert all(caught.value.args) and len(caught.value.args) == 3
    return str(caught.value)


@dataclass
class Pair:
    """A network by the library's own hand, and the backbone made of another copy of it."""

    model: nn.Module
    backbone: Backbone
    images: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.images = torch.randn(2, *self.backbone.inputs["image"].shape, generator=torch.Generator().manual_seed(0))

    def train(self, mode: bool) -> None:
        self.model.train(mode)
        for unit in self.backbone.units:
            unit.module.train(mode)


@pytest.fixture(
    scope="module",
    params=[*CASES, pytest.param(LARGE, marks=pytest.mark.long)],
    ids=lambda case: f"{case[0].name}-{case[0].architecture}",
)
def pair(request: pytest.FixtureRequest) -> Pair:
    config, size = request.param
    return Pair(copy.deepcopy(_create(config, (3, size, size))), _build(config, (3, size, size)))


def _run(forward: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    torch.manual_seed(SEED)
    return forward(images)


def _classify(backbone: Backbone, images: Tensor) -> Tensor:
    return backbone.forward({"image": images})["logits"]


def _forward_checked(backbone: Backbone, images: Tensor) -> Tensor:
    values: Mapping[str, Tensor] = {"image": images}
    for position, unit in enumerate(backbone.units):
        assert values.keys() == backbone.live(position).keys()
        versions = {name: value._version for name, value in values.items()}
        written = run_unit(unit.module, unit.reads, unit.writes, values)
        assert versions == {name: value._version for name, value in values.items()}, f"{unit.name} writes into a value"
        assert {name: tuple(value.shape[1:]) for name, value in written.items()} == {
            name: feature.shape for name, feature in unit.outputs.items()
        }
        live = {**values, **written}
        values = {name: live[name] for name in backbone.live(position + 1)}
    return values["logits"]


def test_units_equal_the_network_in_evaluation(pair: Pair) -> None:
    pair.train(False)
    with torch.no_grad():
        assert torch.equal(pair.model(pair.images), _classify(pair.backbone, pair.images))


def test_units_equal_the_network_in_training_and_all_parameters_learn(pair: Pair) -> None:
    pair.train(True)
    logits = _run(lambda images: _forward_checked(pair.backbone, images), pair.images)
    assert torch.equal(
        _run(pair.model, pair.images), logits
    )  # both with gradients: attention has other kernels without
    logits.square().sum().backward()
    for unit in pair.backbone.units:
        assert all(parameter.grad is not None for parameter in unit.module.parameters()), unit.name


def test_units_share_out_the_networks_parameters(pair: Pair) -> None:
    units = pair.backbone.units
    assert len({unit.name for unit in units}) == len(units) >= 3
    owned = [parameter for unit in units for parameter in unit.module.parameters()]
    assert len({id(parameter) for parameter in owned}) == len(owned)
    assert sorted(map(_fingerprint, owned)) == sorted(map(_fingerprint, pair.model.parameters()))
    assert all(any(parameter.ndim > 1 for parameter in unit.module.parameters()) for unit in units)


def _fingerprint(parameter: Tensor) -> tuple[tuple[int, ...], float]:
    return tuple(parameter.shape), float(parameter.detach().abs().sum())


@pytest.mark.parametrize("architecture", ["resnet18", "eva02_tiny_patch14_224", "xcit_nano_12_p8_224"])
def test_units_can_be_copied_pickled_and_moved(architecture: str) -> None:
    backbone = _build(TimmConfig(architecture=architecture, drop_rate=0.1), (3, 56, 56))
    modules = [unit.module.eval() for unit in backbone.units]
    images = torch.randn(2, 3, 56, 56)
    for clones in (copy.deepcopy(modules), pickle.loads(pickle.dumps(modules))):
        with torch.no_grad():
            assert torch.equal(nn.Sequential(*clones)(images), _classify(backbone, images))
    on_meta = nn.Sequential(*copy.deepcopy(modules)).to("meta")  # another device: no constant may stay behind
    assert on_meta(images.to("meta")).shape == (2, NUM_CLASSES)


@pytest.mark.parametrize("config", [TimmConfig(architecture="resnet50"), TorchvisionConfig(architecture="resnet50")])
def test_names_of_resnets_are_those_of_the_partition_tables(config: Config) -> None:
    assert _names(config) == RESNET50


@pytest.mark.parametrize(
    "config, names",
    [
        (TimmConfig(architecture="resnet10t"), "stem layer1.0 layer2.0 layer3.0 layer4.0 head"),
        (TimmConfig(architecture="regnetx_002"), "stem s1.b1 s2.b1 s3.b1 s3.b2 s3.b3 s3.b4 s4.b1 s4.b2 s4.b3 s4.b4"),
        (TimmConfig(architecture="vit_tiny_patch16_224"), "stem blocks.0 blocks.1 blocks.2 blocks.3 blocks.4 blocks.5"),
        (TimmConfig(architecture="convnext_atto"), "stem stages.0.blocks.0 stages.0.blocks.1 stages.1.downsample"),
        (TimmConfig(architecture="densenet121"), "stem features.denseblock1 features.transition1 features.denseblock2"),
        (TimmConfig(architecture="dla46_c"), "stem level2"),
        (TorchvisionConfig(architecture="efficientnet_v2_s"), "stem features.1.0 features.1.1 features.2.0"),
        (TorchvisionConfig(architecture="regnet_y_400mf"), "stem trunk_output.block1.block1-0"),
        (
            TorchvisionConfig(architecture="vgg11_bn"),
            "features.0 features.4 features.8 features.11 features.15 features.18 features.22 features.25 head",
        ),
    ],
    ids=lambda value: getattr(value, "architecture", ""),
)
def test_names_are_paths(config: Config, names: str) -> None:
    found = _names(config)
    assert " ".join(found).startswith(names)
    assert found[-1] == "head"


def test_features_of_maps_and_tokens() -> None:
    swin = _build(TorchvisionConfig(architecture="swin_t")).units[0].output
    assert (swin.shape, swin.layout, swin.channels, swin.size) == ((8, 8, 96), "NHWC", 96, (8, 8))
    vit = _build(TimmConfig(architecture="vit_tiny_patch16_224")).units[0].output
    assert (vit.shape, vit.layout, vit.num_prefix_tokens, vit.size) == ((5, 192), "NLC", 1, (2, 2))
    cait = _build(TimmConfig(architecture="cait_xxs24_224")).units[0].output  # its class token joins at the end
    assert (cait.shape, cait.layout, cait.num_prefix_tokens) == ((4, 192), "NLC", 0)


@pytest.mark.parametrize(
    ("number", "height", "width", "grid"),
    [(196, 224, 224, (14, 14)), (6, 48, 32, (3, 2)), (8, 32, 64, (2, 4)), (12, 60, 50, (4, 3)), (49, 32, 32, (7, 7))],
)
def test_tokens_lie_on_the_grid_of_square_patches(number: int, height: int, width: int, grid: tuple[int, int]) -> None:
    assert token_grid(number, height, width) == grid


def test_tokens_that_form_no_grid_are_refused_where_a_map_is_needed() -> None:
    assert token_grid(17, 32, 32) is None
    with pytest.raises(BackboneError, match="17 patch tokens of width 8 cannot be laid out as a map"):
        _ = Feature((18, 8), "NLC", 1).size


def test_oblong_images_make_oblong_token_maps() -> None:
    vit = _build(TimmConfig(architecture="vit_tiny_patch16_224"), (3, 48, 32))
    assert vit.units[0].output.size == (3, 2)


@pytest.mark.parametrize("config", [TimmConfig(), TorchvisionConfig()])
def test_weights_depend_on_the_seed_and_nothing_else(config: Config) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = _build(config).units[0].module.state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = _build(config).units[0].module.state_dict(), _build(config, seed=8).units[0].module.state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_building_leaves_the_network_as_it_was_made() -> None:
    config = TimmConfig(architecture="mobilenetv3_small_050")
    made = _create(config).state_dict()
    for unit in _build(config).units:
        assert all(module.training for module in unit.module.modules())
        for key, value in unit.module.state_dict().items():
            path = f"{unit.name}.{key}"
            assert torch.equal(made[path if path in made else key], value)  # running statistics, too


@pytest.mark.parametrize("config", [TimmConfig(), TorchvisionConfig(), TorchvisionConfig(architecture="densenet121")])
@pytest.mark.parametrize("num_channels", [1, 4])
def test_images_need_not_be_rgb(config: Config, num_channels: int) -> None:
    backbone = _build(config, (num_channels, 32, 32))
    assert _classify(backbone, torch.randn(2, num_channels, 32, 32)).shape == (2, NUM_CLASSES)


def test_images_need_not_be_square() -> None:
    for architecture in ("resnet18", "vit_tiny_patch16_224"):
        backbone = _build(TimmConfig(architecture=architecture), (3, 32, 64))
        assert _classify(backbone, torch.randn(2, 3, 32, 64)).shape == (2, NUM_CLASSES)


def test_rates_of_zero_switch_off_what_the_architecture_has_by_default() -> None:
    model = _create(TorchvisionConfig(architecture="efficientnet_b0"))
    assert all(module.p == 0.0 for module in model.modules() if isinstance(module, nn.Dropout | StochasticDepth))
    model = _create(TorchvisionConfig(architecture="efficientnet_b0", drop_rate=0.4, drop_path_rate=0.1))
    rates = [float(module.p) for module in model.modules() if isinstance(module, nn.Dropout | StochasticDepth)]
    assert rates[-1] == 0.4 and max(rates[:-1]) == pytest.approx(0.1) and rates[0] == 0.0


def test_pretrained_weights_get_a_new_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def get_model(name: str, *, weights: str, **kwargs: Any) -> nn.Module:
        asked.update(kwargs, weights=weights)
        return torchvision_library.models.resnet18(weights=None, **kwargs)

    monkeypatch.setattr(torchvision_library.models, "get_model", get_model)
    backbone = _build(TorchvisionConfig(pretrained=True), (1, 32, 32))
    assert asked["weights"] == "DEFAULT" and "num_classes" not in asked
    assert _classify(backbone, torch.randn(2, 1, 32, 32)).shape == (2, NUM_CLASSES)


def test_weights_that_cannot_be_downloaded_are_an_error_in_three_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_model(name: str, *, pretrained: bool, **kwargs: Any) -> nn.Module:
        raise ConnectionError(f"offline, pretrained={pretrained}")

    monkeypatch.setattr(timm_library, "create_model", create_model)
    assert "pretrained=True" in _refusal(TimmConfig(pretrained=True), BackboneError)


@pytest.mark.parametrize(
    "config, size",
    [
        (TimmConfig(architecture="inception_v3"), 32),
        (TimmConfig(architecture="vit_tiny_patch16_224", kwargs={"img_size": 224}), 32),
        (TimmConfig(architecture="efficientformer_l1"), 64),
        (TorchvisionConfig(architecture="alexnet"), 32),
        (TorchvisionConfig(architecture="vit_b_16", kwargs={"image_size": 224}), 32),
        (TorchvisionConfig(architecture="maxvit_t"), 64),
    ],
    ids=lambda value: getattr(value, "architecture", ""),
)
def test_wrong_image_size_is_refused(config: Config, size: int) -> None:
    assert "image size" in _refusal(config, BackboneError, (3, size, size))


@pytest.mark.parametrize("name", ["timm", "torchvision"])
def test_unknown_architecture_gets_a_suggestion(name: str) -> None:
    entry = MODELS.get(name)
    with pytest.raises(UnknownNameError, match="Did you mean 'resnet18'"):
        entry.build(type(entry.config)(architecture="resnt18"), **classification(), seed=0)


@pytest.mark.parametrize(
    "config",
    [
        TimmConfig(architecture="vgg11", drop_path_rate=0.1),
        TimmConfig(architecture="resnet18", kwargs={"num_wheels": 4}),
        TorchvisionConfig(architecture="resnet18", drop_rate=0.1),
        TorchvisionConfig(architecture="resnet18", drop_path_rate=0.1),
        TorchvisionConfig(architecture="resnet18", kwargs={"num_wheels": 4}),
    ],
)
def test_options_that_an_architecture_does_not_take_are_refused(config: Config) -> None:
    assert "does not take" in _refusal(config, ConfigError)
