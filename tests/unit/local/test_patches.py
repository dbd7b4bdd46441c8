"""How patches are cut where they do not divide a map or an image."""

import pytest
import torch

from isograd.errors import ConfigError
from isograd.local.decoders import image_decoder
from isograd.local.patches import Patching, split
from isograd.models.backbone import Feature

MAP = Feature((6, 9, 7), "NCHW")


def test_a_remainder_goes_to_the_last_patches() -> None:
    value = torch.arange(63.0).view(1, 1, 9, 7)
    shapes = [tuple(patch.shape[2:]) for patch in split(value, 2)]
    assert shapes == [(4, 3), (4, 4), (5, 3), (5, 4)]
    rows = [torch.cat(split(value, 2)[start : start + 2], dim=3) for start in (0, 2)]
    assert torch.equal(torch.cat(rows, dim=2), value)


def test_each_quadrant_reproduces_its_own_part_of_an_odd_image() -> None:
    loss = Patching("quadrants", 3).reconstruction(MAP, (3, 32, 31), image_decoder)
    feature = torch.randn(2, *MAP.shape, requires_grad=True)
    loss(feature, torch.rand(2, 3, 32, 31)).backward()
    assert feature.grad is not None and (feature.grad != 0).all()


def test_one_decoder_for_all_patches_needs_patches_of_one_size() -> None:
    with pytest.raises(ConfigError, match="num_patches=3 does not divide images of 32x33 pixels"):
        Patching("shared", 3).reconstruction(MAP, (3, 32, 33), image_decoder)
    loss = Patching("shared", 3).reconstruction(MAP, (3, 33, 33), image_decoder)
    assert loss(torch.randn(2, *MAP.shape), torch.rand(2, 3, 33, 33)).isfinite()
