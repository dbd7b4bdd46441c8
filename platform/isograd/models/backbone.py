"""The contract of a backbone: a network as an ordered list of named units.

A *unit* is the smallest piece that one may cut between: a stem, one residual or transformer block, a head. It reads
some named values and writes some; a value is alive until its last reader, and what crosses a cut is what is alive
there. A plain chain has one name. Running the units in order equals the network's own forward.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isqrt
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from isograd.data.field import Field, Fields
from isograd.errors import BackboneError
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
        alive: list[Mapping[str, Feature]] = []
        for unit, names in zip(self.units, reversed(needed[1:]), strict=True):
            alive.append({name: feature for name, feature in known.items() if name in names})
            known = {**unit.outputs, **{name: known[name] for name in known if name not in unit.outputs}}
        return (*alive, dict(self.units[-1].outputs))

    def live(self, position: int) -> Mapping[str, Feature]:
        """Returns the values that are alive before the unit at ``position``; after the last one, the output.

        The last written come first: the main output of the unit just before, where a later one reads it.
        """
        return self._live[position]

    @property
    def blocks(self) -> tuple[Unit, ...]:
        """Its units that are neither stem nor neck nor head."""
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

    def __call__(self, config: Any, *, inputs: Fields, outputs: Fields, seed: int) -> Backbone:
        """Returns the backbone.

        Args:
            config: The options of the network.
            inputs: What the data gives.
            outputs: What the task reads.
            seed: Of the initial weights.

        Raises:
            BackboneError: The configuration, the inputs and the outputs do not fit.
        """
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


class Classifier(NamedTuple):
    """What a classifier of images has to know of data and task.

    Attributes:
        input_name: Of the image.
        input_shape: (C, H, W) of one image.
        output_name: Of the logits.
        num_classes: Y.
    """

    input_name: str
    input_shape: tuple[int, int, int]
    output_name: str
    num_classes: int


def classifier(name: str, inputs: Fields, outputs: Fields) -> Classifier:
    """Returns what a network that classifies images has to know.

    Raises:
        BackboneError: The data is not one image of a fixed size, or the output not one vector.
    """
    images = [(key, field.fixed_shape) for key, field in inputs.items() if field.kind == "image" and field.is_fixed]
    vectors = [(key, field.fixed_shape) for key, field in outputs.items() if field.is_fixed and len(field.shape) == 1]
    if len(images) != len(inputs) or len(images) != 1 or len(images[0][1]) != 3:
        raise BackboneError(
            f"{name} classifies images, and the data has {_describe(inputs)}",
            "It takes one image of a fixed size (C, H, W), and nothing else",
            "Use a model that is made for this data, or a data set of images.",
        )
    if len(vectors) != len(outputs) or len(vectors) != 1:
        raise BackboneError(
            f"{name} classifies images, and the task reads {_describe(outputs)}",
            "It returns one vector of Y logits for a sample, and nothing else",
            "Use a model that is made for this task, or task=classification.",
        )
    (input_name, (channels, height, width)), (output_name, (num_classes,)) = images[0], vectors[0]
    return Classifier(input_name, (channels, height, width), output_name, num_classes)


def _describe(fields: Fields) -> str:
    return ", ".join(f"'{name}' ({_shape(field)}, {field.kind})" for name, field in fields.items()) or "nothing"


def _shape(field: Field) -> str:
    return "x".join("?" if size is None else str(size) for size in field.shape) or "a number"
