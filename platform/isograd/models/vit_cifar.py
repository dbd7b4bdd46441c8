"""Vision transformers for small images (Dosovitskiy et al. 2021), widths Ti, S and B of DeiT, patch size by choice.

The blocks are timm's; what is ours is the cutting into units, each drawn from its own named stream.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from isograd.data.field import Fields
from isograd.errors import BackboneError
from isograd.models.assembly import Link, assemble, check_heads, draw_units
from isograd.models.backbone import MODELS, Backbone, Layout, ModelEntry, classifier
from isograd.options import number


@dataclass
class ViTCifarConfig:
    """Attributes:
    name: Of the preset.
    width: D, a multiple of ``num_heads``.
    depth: Transformer blocks.
    num_heads: Attention heads.
    patch_size: Pixels on a side of a patch; divides the image's height and width.
    mlp_ratio: Hidden width of a block's MLP over ``width``.
    drop_rate: Dropout after the position embedding and in the MLPs and projections.
    drop_path_rate: Stochastic depth of the last block; the blocks before have proportionally less.
    """

    name: str = "vit_ti"
    width: int = number(192, 1)
    depth: int = number(12, 1)
    num_heads: int = number(3, 1)
    patch_size: int = number(4, 1)
    mlp_ratio: float = number(4.0, 0, open=True)
    drop_rate: float = number(0.0, 0, 1)
    drop_path_rate: float = number(0.0, 0, 1)


class PatchStem(nn.Module):
    """Patches to tokens, class token in front, position embedding added. Shapes: (B, C, H, W) -> (B, N + 1, D)."""

    def __init__(self, config: ViTCifarConfig, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = input_shape
        num_patches = (height // config.patch_size) * (width // config.patch_size)
        self.projection = nn.Conv2d(channels, config.width, config.patch_size, config.patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.position = nn.Parameter(torch.zeros(1, num_patches + 1, config.width))
        self.drop = nn.Dropout(config.drop_rate)
        nn.init.normal_(self.class_token, std=1e-6)
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Returns what the class says."""
        tokens = self.projection(images).flatten(2).transpose(1, 2)  # (B, N, D)
        tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)  # (B, N + 1, D)
        return self.drop(tokens + self.position)


class ClassTokenHead(nn.Module):
    """LayerNorm, then a linear classifier on the class token. Shapes: (B, N + 1, D) -> (B, Y)."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns what the class says."""
        return self.fc(self.norm(tokens[:, 0]))


def build(config: ViTCifarConfig, *, inputs: Fields, outputs: Fields, seed: int) -> Backbone:
    """Builds units ``stem``, ``blocks.0`` ... , ``head``.

    Raises:
        BackboneError: The patch size does not divide the image, the heads do not divide the width, or this is no
            classification of images.
    """
    wanted = classifier(config.name, inputs, outputs)
    _check(config, wanted.input_shape)
    makers: dict[str, Callable[[], nn.Module]] = {
        "stem": lambda: PatchStem(config, wanted.input_shape),
        **{f"blocks.{depth}": partial(_block, config, depth) for depth in range(config.depth)},
        "head": lambda: ClassTokenHead(config.width, wanted.num_classes),
    }
    links = [Link(unit, module) for unit, module in draw_units(makers, seed, _draw).items()]
    return assemble(config.name, links, inputs=inputs, outputs=outputs, layout_of=_layout)


def _check(config: ViTCifarConfig, input_shape: tuple[int, int, int]) -> None:
    _, height, width = input_shape
    if height % config.patch_size or width % config.patch_size:
        raise BackboneError(
            f"{config.name} cannot cut images of {height}x{width} pixels into patches of {config.patch_size}",
            "Every pixel has to belong to one patch",
            "Use model.patch_size=N with an N that divides both sides.",
        )
    check_heads(config.name, config.width, config.num_heads)


def _block(config: ViTCifarConfig, depth: int) -> nn.Module:
    from timm.models.vision_transformer import Block

    return Block(
        config.width,
        config.num_heads,
        mlp_ratio=config.mlp_ratio,
        qkv_bias=True,
        proj_drop=config.drop_rate,
        drop_path=config.drop_path_rate * depth / max(config.depth - 1, 1),
    )


def _draw(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            nn.init.zeros_(part.bias)


def _layout(value: Tensor) -> tuple[Layout, int]:
    return ("NLC", 1) if value.ndim == 3 else ("NC", 0)


for _name, _width, _heads in (("vit_ti", 192, 3), ("vit_s", 384, 6), ("vit_b", 768, 12)):
    MODELS.add(_name, ModelEntry(ViTCifarConfig(_name, _width, num_heads=_heads), build))
