"""Patch feature fusion (HPFF, Li et al. 2024): an auxiliary network sees n x n patches of the map, one by one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from isograd.data.field import Fields
from isograd.errors import ConfigError
from isograd.local.decoders import ImageShape
from isograd.local.infopro import Reconstruction, pixel_loss
from isograd.models.backbone import MAIN, Feature
from isograd.models.layers import AsMap
from isograd.tasks.task import Head


def split(value: Tensor, count: int) -> list[Tensor]:
    """Cuts a map into ``count`` x ``count`` patches, row by row; a remainder goes to the last ones.

    Shapes: (B, C, H, W) -> count^2 times (B, C, H / count, W / count).
    """
    rows = value.split(_sides(value.shape[2], count), dim=2)
    return [patch for row in rows for patch in row.split(_sides(value.shape[3], count), dim=3)]


def _sides(length: int, count: int) -> list[int]:
    share = length // count
    return [share] * (count - 1) + [length - share * (count - 1)]


class PatchHead(nn.Module):
    """The paper's form: one head on every patch, its outputs averaged. Shapes: feature -> (B, Y)."""

    def __init__(self, feature: Feature, head: nn.Module, count: int) -> None:
        super().__init__()
        self.as_map, self.head, self.count = AsMap(feature), head, count

    def forward(self, value: Tensor) -> Tensor:
        """Returns the mean of the head's outputs."""
        return torch.stack([self.head(patch) for patch in split(self.as_map(value), self.count)]).mean(dim=0)


class PatchReconstruction(nn.Module):
    """Every patch of the activation reproduces its patch of the image.

    Args:
        decoders: One for all patches, or one for each.
        summed: Whether losses are summed, as the released code does, or averaged.
    """

    def __init__(self, feature: Feature, decoders: list[nn.Module], count: int, *, summed: bool) -> None:
        super().__init__()
        self.as_map, self.decoders = AsMap(feature), nn.ModuleList(decoders)
        self.count, self.summed = count, summed

    def forward(self, feature: Tensor, image: Tensor) -> Tensor:
        """Returns the loss. Shapes: feature (B, ...), image (B, C, H, W) in [0, 1] -> ()."""
        pairs = zip(split(self.as_map(feature), self.count), split(image, self.count), strict=True)
        losses = [
            pixel_loss(self.decoders[position % len(self.decoders)](patch), part)
            for position, (patch, part) in enumerate(pairs)
        ]
        return torch.stack(losses).sum() if self.summed else torch.stack(losses).mean()


@dataclass(frozen=True)
class Patching:
    """How auxiliary networks see a map.

    Attributes:
        mode: ``none`` (whole); ``shared`` (the paper: one network for all patches, heads' outputs averaged);
            ``quadrants`` (the released code: heads see the whole map, each patch has a decoder of its own, and their
            losses are summed).
        count: n, patches on a side.
    """

    mode: str = "none"
    count: int = 2

    def head(
        self, live: Mapping[str, Feature], build: Callable[[Mapping[str, Feature]], Head], outputs: Fields
    ) -> Head:
        """Returns the head that ``build`` makes for live values, on patches of the main one where the mode says so.

        Args:
            live: What is alive at the cut.
            build: Makes the task's head.
            outputs: What the task predicts.

        Raises:
            ConfigError: The head reads other values too, predicts several, or one for each place, which cannot be
                averaged over patches.
        """
        if MAIN in live:
            self._check_map(live[MAIN])
        if self.mode != "shared":
            return build(live)
        head = build({**live, MAIN: self._patch(live[MAIN])})
        if any(len(field.shape) > 1 for field in outputs.values()):
            raise ConfigError(
                "method.patches=shared cannot average what this task predicts: "
                + ", ".join(f"{name} ({field.kind})" for name, field in outputs.items()),
                "A patch would be taken for the whole: each place has a prediction of its own",
                "Use method.patches=none.",
            )
        if head.reads != (MAIN,) or len(head.writes) != 1:
            raise ConfigError(
                f"method.patches=shared cannot split what this task's auxiliary network reads: {', '.join(head.reads)}",
                "Each patch of the main value is to be predicted from alone, and the predictions are averaged",
                "Use method.patches=none.",
            )
        return replace(head, module=PatchHead(live[MAIN], head.module, self.count))

    def network(self, feature: Feature, build: Callable[[Feature], nn.Module]) -> nn.Module:
        """Returns the network that ``build`` makes for a feature, on patches where the mode says so."""
        return build(feature) if self.mode != "shared" else PatchHead(feature, build(self._patch(feature)), self.count)

    def reconstruction(
        self, feature: Feature, image_shape: ImageShape, build: Callable[[Feature, ImageShape], nn.Module]
    ) -> nn.Module:
        """Returns the reconstruction loss with the decoders that ``build`` makes for a feature and an image shape.

        Raises:
            ConfigError: The map or the image cannot be split so.
        """
        if self.mode == "none":
            return Reconstruction(build(feature, image_shape))
        parts = self._parts(image_shape)
        if self.mode == "quadrants":
            decoders = [build(self._patch(feature), part) for part in parts]
            return PatchReconstruction(feature, decoders, self.count, summed=True)
        if len(set(parts)) > 1:
            raise ConfigError(
                f"method.num_patches={self.count} does not divide images of {image_shape[1]}x{image_shape[2]} pixels",
                "All patches share one decoder, which reproduces images of one size",
                "Use a number that divides both sides for method.num_patches, or method.patches=quadrants.",
            )
        return PatchReconstruction(feature, [build(self._patch(feature), parts[0])], self.count, summed=False)

    def _check_map(self, feature: Feature) -> None:
        if self.mode != "none" and feature.is_causal:
            raise ConfigError(
                f"method.patches={self.mode} cannot split a sequence of {feature.shape[0]} tokens",
                "Patches are parts of a map, each with the whole target to predict; here every token has its own",
                "Use method.patches=none.",
            )

    def _parts(self, image_shape: ImageShape) -> list[ImageShape]:
        """Returns the shapes of an image's patches, as :func:`split` cuts them."""
        channels, height, width = image_shape
        rows, columns = _sides(height, self.count), _sides(width, self.count)
        return [(channels, row, column) for row in rows for column in columns]

    def _patch(self, feature: Feature) -> Feature:
        height, width = feature.size[0] // self.count, feature.size[1] // self.count
        if not height or not width:
            raise ConfigError(
                f"method.num_patches={self.count} cannot split a map of {feature.size[0]}x{feature.size[1]}",
                "Each patch needs at least one element on a side",
                f"Use method.num_patches={min(feature.size)}, method.patches=none, or fewer local modules.",
            )
        return Feature((feature.channels, height, width), "NCHW")
