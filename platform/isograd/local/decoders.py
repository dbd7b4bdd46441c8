"""Decoders that reproduce the image from an activation, for InfoPro's losses (Wang et al. 2021).

Sizes of the released ImageNet ones are shares of the image's, so that other images than 224x224 work, too. Biases
before BatchNorm, which cancels them, are left out.
"""

from torch import nn

from isograd.local.resize import Resize, ResizedConv2d
from isograd.models.backbone import Feature
from isograd.models.layers import as_map, conv

ImageShape = tuple[int, int, int]
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


def image_decoder(feature: Feature, image_shape: tuple[int, int, int], widen: float = 1) -> nn.Module:
    """Reproduces the image from an activation: resize, conv3x3 to 12, BatchNorm, ReLU, conv3x3, sigmoid.

    Shapes: feature -> (B, C, H, W) in (0, 1), C, H, W the image's.
    """
    (channels, height, width), inner = image_shape, int(12 * widen)
    decoder = nn.Sequential(
        ResizedConv2d(feature.channels, inner, (height, width)),
        nn.BatchNorm2d(inner),
        nn.ReLU(),
        nn.Conv2d(inner, channels, 3, padding=1),
        nn.Sigmoid(),
    )
    return as_map(feature, decoder)


def imagenet_decoder(feature: Feature, image_shape: ImageShape) -> nn.Module:
    """InfoPro's for up to 512 channels, MAN's for more. Shapes: feature -> (B, C, H, W) in (0, 1), the image's."""
    return _decoder(feature, image_shape, *(_NARROW if feature.channels <= 512 else _WIDE))


def hpff_decoder(feature: Feature, image_shape: ImageShape) -> nn.Module:
    """HPFF's, for the resolution nearest to the activation's. Shapes: as :func:`imagenet_decoder`."""
    share = image_shape[1] / feature.size[0]
    nearest = min(_HPFF, key=lambda known: abs(known - share))
    return _decoder(feature, image_shape, *_HPFF[nearest])


def _decoder(feature: Feature, image_shape: ImageShape, width: int, steps: Steps) -> nn.Module:
    channels, rows, columns = image_shape
    layers = conv(feature.channels, width, 1)
    for share, kernel, wider in steps:
        layers += [Resize((rows // share, columns // share)), *conv(width, wider, kernel)]
        width = wider
    layers += [Resize((rows, columns)), nn.Conv2d(width, channels, 3, padding=1), nn.Sigmoid()]
    return as_map(feature, nn.Sequential(*layers))
