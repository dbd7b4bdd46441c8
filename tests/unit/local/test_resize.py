"""Enlarging and convolving in one is what the two are one after the other."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd.local.infopro import pixel_loss
from isograd.local.resize import Resize, ResizedConv2d


def plain(layer: ResizedConv2d, value: Tensor) -> Tensor:
    return nn.Conv2d.forward(layer, Resize(layer.resize.size)(value))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("given", "wanted"), [((4, 4), (16, 16)), ((3, 5), (7, 11)), ((8, 8), (8, 8)), ((1, 1), (4, 4))]
)
def test_it_equals_a_convolution_of_the_enlarged_map(
    given: tuple[int, int], wanted: tuple[int, int], layout: torch.memory_format
) -> None:
    layer = ResizedConv2d(6, 5, wanted).double()
    values = [torch.randn(2, 6, *given, dtype=torch.float64).to(memory_format=layout) for _ in range(1)] * 2
    leaves = [value.clone().requires_grad_() for value in values]
    outputs = [layer(leaves[0]), plain(layer, leaves[1])]
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-12, atol=1e-12)
    weight, gradients = torch.randn_like(outputs[0]), []
    for output, leaf in zip(outputs, leaves, strict=True):
        layer.zero_grad()
        (output * weight).sum().backward()
        gradients.append([found.grad for found in (leaf, *layer.parameters())])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pixel_loss_is_binary_cross_entropy(dtype: torch.dtype) -> None:
    decoded = torch.rand(3, 2, 4, 4, dtype=dtype)
    decoded[0, 0, 0, 0], decoded[0, 0, 0, 1] = 0.0, 1.0  # where logarithms are clamped
    image = torch.rand(3, 2, 4, 4, dtype=dtype)
    leaves = [decoded.clone().requires_grad_() for _ in range(2)]
    losses = [pixel_loss(leaves[0], image), F.binary_cross_entropy(leaves[1], image)]
    for loss in losses:
        (3 * loss).backward()
    torch.testing.assert_close(losses[0], losses[1])
    assert leaves[0].grad is not None and leaves[1].grad is not None
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad)
