"""Networks that would leave out rows and columns of an image are refused; those that pad or overlap are not."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from isograd.errors import BackboneError
from isograd.models.patches import whole_patches
from isograd.models.timm import TimmConfig, build
from tests.fields import classification


class Padding(nn.Conv2d):
    """Pads by itself before it cuts, as timm's "same" convolutions do."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(F.pad(input, (0, 4, 0, 4)))


def run(layer: nn.Module, height: int, width: int) -> None:
    with whole_patches("net", [layer], (3, height, width)):
        layer(torch.zeros(1, 3, height, width))


@pytest.mark.parametrize(
    ("layer", "patch"),
    [(nn.Conv2d(3, 4, 16, 16), 16), (nn.Conv2d(3, 4, 8, 8, padding="valid"), 8), (nn.Unfold(16, stride=16), 16)],
)
def test_what_belongs_to_no_patch_is_refused_with_its_numbers(layer: nn.Module, patch: int) -> None:
    rest = 28 % patch
    with pytest.raises(BackboneError, match=f"28x28 into patches of {patch}x{patch}: {rest} rows and {rest} columns"):
        run(layer, 28, 28)
    run(layer, 32, 48)
    with pytest.raises(BackboneError, match=r"net cuts images of 32x40 .*: 0 rows and 8 columns belong to none"):
        run(nn.Conv2d(3, 4, 16, 16), 32, 40)


@pytest.mark.parametrize(
    "layer", [Padding(3, 4, 16, 16), nn.Conv2d(3, 4, 7, 4, 3), nn.Conv2d(3, 4, 3, 2), nn.Conv2d(3, 4, 16, 16, 2)]
)
def test_padding_and_overlap_leave_out_nothing(layer: nn.Module) -> None:
    run(layer, 28, 28)


def test_a_network_of_timm_names_mends_that_work() -> None:
    config = TimmConfig(architecture="vit_tiny_patch16_224")
    with pytest.raises(BackboneError, match=r"12 rows and 12 columns") as caught:
        build(config, **classification((3, 28, 28)), seed=0)
    assert "model.kwargs.patch_size=14" in caught.value.mend
    assert "data.image_shape=[3,32,32] data.loading=stream data.crop=random" in caught.value.mend
    build(
        TimmConfig(architecture="vit_tiny_patch16_224", kwargs={"patch_size": 14}),
        **classification((3, 28, 28)),
        seed=0,
    )
    build(config, **classification(), seed=0)
