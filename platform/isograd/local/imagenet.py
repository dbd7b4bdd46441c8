"""Decoders and head of the released ImageNet code of InfoPro, MAN and HPFF.

Sizes are shares of the image's, so that other images than 224x224 work, too. Biases before BatchNorm, which cancels
them, are left out.
"""

from torch import nn

from isograd.local.auxiliary import GlobalPool, as_map
from isograd.local.infopro import conv
from isograd.local.patches import ImageShape
from isograd.local.resize import Resize
from isograd.models.backbone import Feature

Steps = tuple[tuple[int, int, int], ...]

# Width of the 1x1 convolution that comes first; then (share of the image's side, kernel, width) of each enlargement
# and the convolution behind it. A last one reproduces the image.
_NARROW: tuple[int, Steps] = (128, ((4, 3, 32), (2, 3, 12)))
_WIDE: tuple[int, Steps] = (192, ((8, 1, 64), (4, 3, 32), (2, 3, 12)))

# HPFF's, by the share of the image's side that the activation has: 56, 28 and 14 of 224 pixels. The last one enlarges
# to a half, then shrinks to a quarter, as released.
_HPFF: dict[int, tuple[int, Steps]] = {
    4: (128, ((2, 3, 16),)),
    8: (128, ((4, 3, 32), (2, 3, 16))),
    16: (128, ((2, 3, 64), (4, 3, 32), (2, 3, 16))),
}


def decoder(feature: Feature, image_shape: ImageShape) -> nn.Module:
    """InfoPro's for up to 512 channels, MAN's for more. Shapes: feature -> (B, C, H, W) in (0, 1), the image's."""
    return _decoder(feature, image_shape, *(_NARROW if feature.channels <= 512 else _WIDE))


def hpff_decoder(feature: Feature, image_shape: ImageShape) -> nn.Module:
    """HPFF's, for the resolution nearest to the activation's. Shapes: as :func:`decoder`."""
    share = image_shape[1] / feature.size[0]
    nearest = min(_HPFF, key=lambda known: abs(known - share))
    return _decoder(feature, image_shape, *_HPFF[nearest])


def head(feature: Feature, num_outputs: int) -> nn.Module:
    """1x1 to 128 (256 above 512 channels), 3x3 stride 2 to 256 and 512, 1x1 to 2048, global pool, linear."""
    first = 128 if feature.channels <= 512 else 256
    layers = [*conv(feature.channels, first, 1), *conv(first, 256, 3, 2), *conv(256, 512, 3, 2), *conv(512, 2048, 1)]
    return as_map(feature, nn.Sequential(*layers, GlobalPool(), nn.Flatten(), nn.Linear(2048, num_outputs)))


def _decoder(feature: Feature, image_shape: ImageShape, width: int, steps: Steps) -> nn.Module:
    channels, rows, columns = image_shape
    layers = conv(feature.channels, width, 1)
    for share, kernel, wider in steps:
        layers += [Resize((rows // share, columns // share)), *conv(width, wider, kernel)]
        width = wider
    layers += [Resize((rows, columns)), nn.Conv2d(width, channels, 3, padding=1), nn.Sigmoid()]
    return as_map(feature, nn.Sequential(*layers))
