"""What data consists of: one field for every input and target of a sample."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["image", "label", "labels", "tokens", "map", "boxes", "vector", "scalar"]

# Tensors by name, flat. The first axis of every leaf is the sample; what is ragged is padded, with its validity beside.
Tree = Mapping[str, Tensor]


@dataclass(frozen=True)
class Field:
    """One input or target of a sample.

    Attributes:
        shape: Without the sample axis; None where samples differ.
        dtype: Of the stored values.
        kind: What they mean: an image (C, H, W), a class label (), several labels (Y,) of 0 and 1, tokens (N,), a map
            of class labels (H, W), boxes (N, 4), a vector (D,), a scalar ().
        num_values: How many values a label or a token may have, Y; None for others.
        mean: Of an image that networks make: per channel, of pixels in [0, 1], what theirs is less by; empty: nothing.
        value_range: Of such an image: what white is to networks.
    """

    shape: tuple[int | None, ...]
    dtype: torch.dtype
    kind: Kind
    num_values: int | None = None
    mean: tuple[float, ...] = ()
    value_range: float = 1.0

    @property
    def is_fixed(self) -> bool:
        """Whether all samples have one shape."""
        return None not in self.shape

    @property
    def fixed_shape(self) -> tuple[int, ...]:
        """The shape of every sample, without the sample axis. To be asked of fixed fields only."""
        assert self.is_fixed
        return tuple(size for size in self.shape if size is not None)


Fields = Mapping[str, Field]


def draw(field: Field, size: int, generator: torch.Generator) -> Tensor:
    """Returns random values of a field for ``size`` samples: what measurements and conformance tests train on.

    An axis on which samples differ has length 16.

    Shapes: () -> (size, *field.shape).
    """
    shape = (size, *(16 if length is None else length for length in field.shape))
    if field.num_values is not None:
        return torch.randint(0, field.num_values, shape, generator=generator, dtype=field.dtype)
    if field.kind == "labels":
        return torch.randint(0, 2, shape, generator=generator, dtype=field.dtype)
    if field.dtype == torch.uint8:
        return torch.randint(0, 256, shape, generator=generator, dtype=field.dtype)
    return torch.randn(shape, generator=generator).to(field.dtype)
