"""The contract of a backbone: a network as an ordered list of named units.

A *unit* is the smallest piece that one may cut between: a stem, one residual or transformer block, a head. It reads
some named values and writes some; a value is alive until its last reader, and what crosses a cut is what is alive
there. A plain chain has one name. Running the units in order equals the network's own forward.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd, isqrt
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from isograd.errors import BackboneError
from isograd.models.patches import whole_patches
from isograd.registry import Registry

Layout = Literal["NCHW", "NHWC", "NLC", "NC"]


@dataclass(frozen=True)
class Feature:
    """What leaves a unit, for one sample.

    Attributes:
        shape: Without the batch axis: (C, H, W), (H, W, C), (N, D) or (Y,), as ``layout`` says.
        layout: The meaning of the axes, batch included.
        num_prefix_tokens: Class and register tokens before the patch tokens (``NLC`` only).
        grid: Rows and columns of the patches (``NLC`` only); None for a square, or for tokens that form no grid.
    """

    shape: tuple[int, ...]
    layout: Layout
    num_prefix_tokens: int = 0
    grid: tuple[int, int] | None = None

    @property
    def channels(self) -> int:
        """Width of the feature: C, or D for tokens."""
        return self.shape[0] if self.layout in ("NCHW", "NC") else self.shape[-1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the map, (1, 1) for logits. Raises BackboneError for tokens that form no grid."""
        if self.layout == "NCHW":
            return self.shape[1], self.shape[2]
        if self.layout == "NHWC":
            return self.shape[0], self.shape[1]
        if self.layout == "NLC":
            return self.grid or self._square()
        return 1, 1

    def _square(self) -> tuple[int, int]:
        number = self.shape[0] - self.num_prefix_tokens
        if isqrt(number) ** 2 != number:
            raise BackboneError(
                f"{number} patch tokens of width {self.channels} cannot be laid out as a map",
                "They are no grid of square patches of the image",
                "Use an auxiliary network for tokens (method.auxiliary=token), or an image size that gives a grid.",
            )
        return isqrt(number), isqrt(number)

    @property
    def numel(self) -> int:
        """Elements of one sample."""
        return int(torch.Size(self.shape).numel())


MAIN = "x"  # what a plain chain's units read and write


Role = Literal["stem", "block", "neck", "head"]


@dataclass(frozen=True)
class Unit:
    """One named piece of a backbone: reads some live values and writes some.

    Attributes:
        name: Unique within the backbone, the same in every process: ``stem``, ``layer1.0``, ``head``.
        module: Takes the values that it reads, in order, as arguments; returns what it writes, a tuple where that is
            several. Its signature is the natural one, so that copies of it work as they are.
        outputs: What it writes, by name, in order; the first is its main output.
        reads: Names of what it is given.
        role: What it is in the network.
    """

    name: str
    module: nn.Module
    outputs: Mapping[str, Feature]
    reads: tuple[str, ...] = (MAIN,)
    role: Role = "block"

    @property
    def writes(self) -> tuple[str, ...]:
        """Names of what it writes."""
        return tuple(self.outputs)

    @property
    def output(self) -> Feature:
        """Its main output."""
        return next(iter(self.outputs.values()))


def run_unit(
    module: nn.Module, reads: Sequence[str], writes: Sequence[str], values: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Calls a module with the values that it reads; returns what it writes, by name."""
    written = module(*(values[name] for name in reads))
    return {writes[0]: written} if len(writes) == 1 else dict(zip(writes, written, strict=True))


@dataclass(frozen=True)
class Backbone:
    """A network as a chain of units over live values.

    Attributes:
        name: For messages and tables.
        units: In order; the last one writes the network's output.
        inputs: What the first unit is given, by name, as its entry leaves it.
    """

    name: str
    units: tuple[Unit, ...]
    inputs: Mapping[str, Feature]

    @cached_property
    def _live(self) -> tuple[Mapping[str, Feature], ...]:
        """What is alive before each unit, and after the last one: written before, and read by it or a later one."""
        needed: list[set[str]] = [set(self.units[-1].writes)]
        for unit in reversed(self.units):
            needed.append((needed[-1] - set(unit.writes)) | set(unit.reads))
        known: dict[str, Feature] = dict(self.inputs)
        found: list[Mapping[str, Feature]] = []
        for unit, names in zip(self.units, reversed(needed[1:]), strict=True):
            found.append({name: feature for name, feature in known.items() if name in names})
            known |= unit.outputs
        return (*found, dict(self.units[-1].outputs))

    def live(self, position: int) -> Mapping[str, Feature]:
        """Returns the values that are alive before the unit at ``position``; after the last one, the output."""
        return self._live[position]

    @property
    def blocks(self) -> tuple[Unit, ...]:
        """Its units between stem and neck or head."""
        return tuple(unit for unit in self.units if unit.role == "block")

    def index(self, unit_name: str) -> int:
        """Returns the position of a unit. Raises BackboneError for a name that it does not have."""
        for position, unit in enumerate(self.units):
            if unit.name == unit_name:
                return position
        raise BackboneError(
            f"{self.name} has no unit '{unit_name}'",
            f"Its units are: {', '.join(unit.name for unit in self.units)}",
            "Use one of these names.",
        )

    def forward(self, values: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Runs all units. Shapes: its inputs -> what the last unit writes."""
        for position, unit in enumerate(self.units):
            live = {**values, **run_unit(unit.module, unit.reads, unit.writes, values)}
            values = {name: live[name] for name in self.live(position + 1)}
        return values


class BackboneBuilder(Protocol):
    """Builds a backbone from its own configuration, with initial weights that depend only on ``seed``."""

    def __call__(self, config: Any, *, input_shape: tuple[int, int, int], num_classes: int, seed: int) -> Backbone:
        """Returns the backbone. Raises BackboneError where the configuration and the input do not fit."""
        ...


@dataclass(frozen=True)
class ModelEntry:
    """A row of the model registry.

    Attributes:
        config: Default configuration, a dataclass instance with a field ``name``.
        build: Makes the backbone.
    """

    config: Any
    build: BackboneBuilder


MODELS: Registry[ModelEntry] = Registry("model", "isograd.models", "isograd.models")


def assemble(
    name: str,
    modules: Sequence[tuple[str, nn.Module]],
    *,
    input_shape: tuple[int, int, int],
    num_classes: int,
    layout_of: Callable[[Tensor], tuple[Layout, int]],
    input_name: str = "image",
    output_name: str = "logits",
) -> Backbone:
    """Runs one blank image through named modules, a plain chain, and records the feature after each.

    Args:
        name: Of the backbone.
        modules: By the names of their units. The first and the last are stem and head, whatever they hold.
        input_shape: (C, H, W) of one image.
        num_classes: Y.
        input_name: Of the image among the inputs.
        output_name: Of the logits.
        layout_of: Maps a unit's output to its layout and number of prefix tokens.

    Raises:
        BackboneError: A module rejects the shape, patches leave out part of the image, or the last module does not
            return (B, Y).
    """
    units: list[Unit] = []
    value = torch.zeros(1, *input_shape)
    with whole_patches(name, [module for _, module in modules], input_shape):
        for unit_name, module in modules:
            value = _probe(name, unit_name, module, value)
            feature = _feature(value, *layout_of(value), input_shape)
            position, last = len(units), len(modules) - 1
            units.append(
                Unit(
                    unit_name,
                    module,
                    {output_name if position == last else MAIN: feature},
                    (MAIN if position else input_name,),
                    "head" if position == last else "block" if position else "stem",
                )
            )
    if tuple(value.shape) != (1, num_classes):
        raise BackboneError(
            f"{name} returns a tensor of shape {tuple(value.shape)} for one image",
            f"A classifier of {num_classes} classes returns (1, {num_classes})",
            "Use an image classifier whose number of classes can be set.",
        )
    return Backbone(name, tuple(units), {input_name: Feature(tuple(input_shape), "NCHW")})


def _feature(value: Tensor, layout: Layout, num_prefix_tokens: int, input_shape: tuple[int, int, int]) -> Feature:
    shape = tuple(value.shape[1:])
    grid = token_grid(shape[0] - num_prefix_tokens, input_shape[1], input_shape[2]) if layout == "NLC" else None
    return Feature(shape, layout, num_prefix_tokens, grid)


def token_grid(num_tokens: int, height: int, width: int) -> tuple[int, int] | None:
    """Returns the rows and columns of ``num_tokens`` square patches of a height x width image, or None.

    That is the grid of a patch size that gives this number; else the one with exactly the image's proportions.
    """
    for patch in range(1, min(height, width) + 1):
        rows, columns = height // patch, width // patch
        if rows * columns == num_tokens:
            return rows, columns
    common = gcd(height, width)
    scale = isqrt(num_tokens * common**2 // (height * width))
    rows, columns = scale * height // common, scale * width // common
    return (rows, columns) if rows * columns == num_tokens > 0 else None


def _probe(name: str, unit_name: str, module: nn.Module, value: Tensor) -> Tensor:
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            return module(value)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise BackboneError(
            f"{name} cannot process its input: unit '{unit_name}' rejects the shape {tuple(value.shape[1:])} ({error})",
            "The image size of the data and the one that the network was built for differ",
            "Use data.image_shape=[C,H,W] with the size it was built for, or another architecture.",
        ) from error
    finally:
        module.train(was_training)
