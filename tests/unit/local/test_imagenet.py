"""Released ImageNet parts, at their own sizes and at others."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from isograd.local.decoders import hpff_decoder, imagenet_decoder
from isograd.local.resize import Resize
from isograd.models.backbone import Feature
from isograd.models.layers import GlobalPool
from isograd.tasks.heads import VECTOR_HEADS

IMAGE = (3, 224, 224)


def widths(network: nn.Module) -> list[tuple[int, int]]:
    return [(part.kernel_size[0], part.out_channels) for part in network.modules() if isinstance(part, nn.Conv2d)]


def sizes(network: nn.Module) -> list[int]:
    return [part.size[0] for part in network.modules() if isinstance(part, Resize)]


@pytest.mark.parametrize(
    ("build", "shape", "convolutions", "enlarged"),
    [
        (imagenet_decoder, (512, 28, 28), [(1, 128), (3, 32), (3, 12), (3, 3)], [56, 112, 224]),
        (imagenet_decoder, (1024, 14, 14), [(1, 192), (1, 64), (3, 32), (3, 12), (3, 3)], [28, 56, 112, 224]),
        (hpff_decoder, (256, 56, 56), [(1, 128), (3, 16), (3, 3)], [112, 224]),
        (hpff_decoder, (512, 28, 28), [(1, 128), (3, 32), (3, 16), (3, 3)], [56, 112, 224]),
        (hpff_decoder, (1024, 14, 14), [(1, 128), (3, 64), (3, 32), (3, 16), (3, 3)], [112, 56, 112, 224]),
    ],
)
def test_decoders(
    build: Callable[[Feature, tuple[int, int, int]], nn.Module],
    shape: tuple[int, int, int],
    convolutions: list[tuple[int, int]],
    enlarged: list[int],
) -> None:
    decoder = build(Feature(shape, "NCHW"), IMAGE)
    assert (widths(decoder), sizes(decoder)) == (convolutions, enlarged)
    with torch.device("meta"):
        assert build(Feature(shape, "NCHW"), IMAGE)(torch.empty(2, *shape)).shape == (2, *IMAGE)


@pytest.mark.parametrize(("channels", "first"), [(256, 128), (512, 128), (1024, 256)])
def test_head(channels: int, first: int) -> None:
    with torch.device("meta"):
        head = VECTOR_HEADS.get("imagenet")(Feature((channels, 14, 14), "NCHW"), 1000)
        assert head(torch.empty(2, channels, 14, 14)).shape == (2, 1000)
    assert widths(head) == [(1, first), (3, 256), (3, 512), (1, 2048)]
    assert any(isinstance(part, GlobalPool) for part in head.modules())


def test_small_images_have_decoders_too() -> None:
    for build in (imagenet_decoder, hpff_decoder):
        for side in (8, 4, 2):
            decoded = build(Feature((64, side, side), "NCHW"), (3, 32, 30))(torch.randn(2, 64, side, side))
            assert decoded.shape == (2, 3, 32, 30) and decoded.min() > 0 and decoded.max() < 1
