"""CIFAR's ResNets: called by the layers that they have."""

from isograd.models.resnet_cifar import ResNetCifarConfig, build
from tests.fields import classification


def test_a_preset_of_another_depth_is_called_by_it() -> None:
    backbone = build(ResNetCifarConfig("resnet20", depth=32, width=4), **classification(), seed=0)
    assert backbone.name == "resnet32" and len(backbone.units) == 17
