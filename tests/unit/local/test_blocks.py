"""Blocks of an auxiliary network that are built like the backbone's."""

import pytest
import torch

from isograd.engine.blueprint import Blueprint
from isograd.local.blocks import fresh, repeatable
from isograd.local.module import Through
from isograd.models.resnet_cifar import draw_convolutions
from tests.runs import config, trained

SMALL = ("model=resnet20", "model.width=4", "executor=sequential")


def test_a_repeatable_block_keeps_the_shape() -> None:
    backbone = Blueprint(config(*SMALL, "method=dgl")).partition.backbone
    found = [repeatable(backbone, unit) for unit in backbone.units[:-1]]
    assert " ".join(unit.name.removeprefix("layer") for unit in found if unit) == (
        "1.0 1.0 1.1 1.2 2.1 2.1 2.2 3.1 3.1 3.2"  # for the stem, then block by block
    )


def test_a_stem_before_another_shape_has_no_repeatable_block() -> None:
    options = ("model=timm/mobilenetv3_small_050", "data.image_shape=[3,64,64]", "method=dgl")
    backbone = Blueprint(config(*options)).partition.backbone
    assert repeatable(backbone, backbone.units[0]) is None


@pytest.mark.parametrize("num_modules", [4, 11])
def test_extra_blocks_of_man_keep_the_shape_at_every_cut(num_modules: int) -> None:
    options = (*SMALL, "method=man", "method.num_extra_blocks=2", f"partition.num_modules={num_modules}")
    blueprint = Blueprint(config(*options))
    for index in range(num_modules - 2):  # behind the last cut stands the head alone, or the loss of the last block
        objective = blueprint.method.objective(blueprint.partition, index)
        block = blueprint.partition.block_after(index)
        assert isinstance(objective, Through) and block is not None
        value = torch.randn(2, *blueprint.partition.units(index)[-1].output.shape)
        assert objective.network(value).shape[1:] == block.output.shape
        assert len(objective.network.extra) == 2  # pyright: ignore[reportArgumentType]
    assert trained(*options, max_steps=1)


@pytest.mark.parametrize(
    "model", ["torchvision/vit_b_16", "torchvision/swin_t", "timm/cait_xxs24_224", "timm/convnext_atto", "resnet20"]
)
def test_a_fresh_block_has_weights_of_its_own(model: str) -> None:
    backbone = Blueprint(config(f"model={model}", "data.image_shape=[3,32,32]", "method=dgl")).partition.backbone
    unit = backbone.units[2]
    theirs = dict(unit.module.named_parameters())
    block = fresh(unit)
    draw_convolutions(block)
    for name, weight in block.named_parameters():
        assert weight.squeeze().dim() < 2 or (weight != theirs[name]).any(), name
