"""InfoPro's heads and decoder have the released widths."""

import pytest
import torch
from torch import nn

from isograd.engine.blueprint import Blueprint
from isograd.errors import ConfigError
from isograd.local.decoders import image_decoder
from isograd.models.backbone import Feature
from isograd.tasks.heads import VECTOR_HEADS
from tests.runs import config


def widths(network: nn.Module, kind: type[nn.Conv2d | nn.Linear]) -> list[int]:
    return [layer.weight.shape[0] for layer in network.modules() if isinstance(layer, kind)]


@pytest.mark.parametrize(
    ("layout", "widen", "convolutions", "linear"),
    [
        ("0c1f", 1, [], [10]),
        ("1c2f", 1, [32], [128, 10]),
        ("1c3f", 1, [32], [128, 128, 10]),
        ("2c2f", 1.7, [54, 54], [217, 10]),  # rounded down, as released
        ("2c2f", 0.5, [16, 16], [64, 10]),
    ],
)
def test_head_widths(layout: str, widen: float, convolutions: list[int], linear: list[int]) -> None:
    network = VECTOR_HEADS.get(layout)(Feature((16, 8, 8), "NCHW"), 10, last_channels=64, widen=widen)
    assert (widths(network, nn.Conv2d), widths(network, nn.Linear)) == (convolutions, linear)
    assert network(torch.zeros(2, 16, 8, 8)).shape == (2, 10)


def test_a_head_with_no_such_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="3c1f"):
        Blueprint(config("method=infopro", "method.head=3c1f")).check()


def test_decoder_width_is_rounded_down() -> None:
    assert widths(image_decoder(Feature((16, 8, 8), "NCHW"), (3, 16, 16), 1.2), nn.Conv2d) == [14, 3]


def test_the_contrast_compares_vectors_of_feature_dim() -> None:
    plan = Blueprint(config("method=infopro", "method.loss=contrast", "method.feature_dim=24", "method.widen=2"))
    linear = widths(plan.method.local_modules(plan.partition, seed=0)[0].objective, nn.Linear)
    assert linear == [48, 24]
