"""From named modules to a backbone: what they read and write is checked, and every value seen on one blank sample."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from math import gcd, isqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from isograd.data.field import Field, Fields
from isograd.errors import BackboneError
from isograd.models.backbone import MAIN, Backbone, Feature, Layout, Role, Unit
from isograd.models.patches import whole_patches
from isograd.seeding import seeded

LayoutOf = Callable[[Tensor], tuple[Layout, int]]

_RAGGED_SIZE = 16  # an axis on which samples differ, as `draw` has it


class Link(NamedTuple):
    """A module on its way to becoming a unit.

    Attributes:
        name: Of the unit.
        module: Takes what it reads as arguments; returns what it writes.
        reads: Names of values. By default ``x``; the inputs where it is the first unit.
        writes: Names of values, the main one first. By default ``x``; the outputs where it is the last unit.
        role: By default stem for the first, head for the last, and block for any other.
    """

    name: str
    module: nn.Module
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    role: Role | None = None


def draw_units(
    makers: Mapping[str, Callable[[], nn.Module]], seed: int, draw: Callable[[nn.Module], object] = lambda module: None
) -> dict[str, nn.Module]:
    """Makes the modules of units, each from its own named stream, so that weights do not depend on other units.

    Args:
        makers: Make the modules, by the units' names.
        seed: Of the run.
        draw: Draws weights of a module that are not to stay as PyTorch draws them.
    """
    modules: dict[str, nn.Module] = {}
    for name, make in makers.items():
        with seeded(seed, "unit", name):
            modules[name] = make()
            draw(modules[name])
    return modules


def check_heads(name: str, width: int, num_heads: int) -> None:
    """Raises BackboneError where attention heads cannot have equal parts of the width."""
    if width % num_heads:
        raise BackboneError(
            f"{name} cannot give {num_heads} attention heads equal parts of {width} channels",
            "Each head needs a whole number of channels",
            "Use model.num_heads=N with an N that divides model.width.",
        )


def natural_layout(value: Tensor) -> tuple[Layout, int]:
    """Returns the layout of vectors, of tokens without prefix, and of maps with channels first."""
    layouts: dict[int, Layout] = {3: "NLC", 4: "NCHW"}
    return layouts.get(value.ndim, "NC"), 0


def assemble(
    name: str, links: Sequence[Link], *, inputs: Fields, outputs: Fields, layout_of: LayoutOf = natural_layout
) -> Backbone:
    """Runs one blank sample through named modules, and records the feature of every value.

    Args:
        name: Of the backbone.
        links: The modules in order. For a plain chain, their names and themselves are enough.
        inputs: What the data gives.
        outputs: What the task reads.
        layout_of: Maps a value to its layout and number of prefix tokens.

    Raises:
        BackboneError: A value is read that nobody wrote, or lost before it is read; a module rejects what it is given,
            or returns something else than tensors; patches leave out part of an image; the last module does not write
            the outputs.
    """
    links = _complete(links, inputs, outputs)
    _check_names(name, links, inputs, outputs)
    images = [field.fixed_shape for field in inputs.values() if field.kind == "image" and field.is_fixed]
    image = images[0] if images else None
    read = {key for link in links for key in link.reads}
    values = {key: _blank(field) for key, field in inputs.items() if key in read}
    given = {key: _feature(value, natural_layout, image) for key, value in values.items()}
    units: list[Unit] = []
    with ExitStack() as stack:
        if image is not None:
            stack.enter_context(whole_patches(name, [link.module for link in links], (image[0], image[1], image[2])))
        for link in links:
            written = _probe(name, link, values, is_image=image is not None)
            features = {key: _feature(value, layout_of, image) for key, value in written.items()}
            units.append(Unit(link.name, link.module, features, link.reads, link.role or "block"))
            values |= written
    _check_outputs(name, values, outputs)
    return Backbone(name, tuple(units), given)


def _complete(links: Sequence[Link], inputs: Fields, outputs: Fields) -> list[Link]:
    last = len(links) - 1
    return [
        link._replace(
            reads=link.reads or ((MAIN,) if position else tuple(inputs)),
            writes=link.writes or ((MAIN,) if position < last else tuple(outputs)),
            role=link.role or ("stem" if position == 0 else "head" if position == last else "block"),
        )
        for position, link in enumerate(links)
    ]


def _check_names(name: str, links: Sequence[Link], inputs: Fields, outputs: Fields) -> None:
    unread: dict[str, str] = {}
    alive = set(inputs)
    for link in links:
        for key in link.reads:
            unread.pop(key, None)
            if key not in alive:
                raise BackboneError(
                    f"{name} is no chain of units: '{link.name}' reads '{key}', which no unit before it has written",
                    f"Units run in order, and the values before this one are {', '.join(sorted(alive)) or 'none'}",
                    f"Let it read one of these, or let an earlier unit write '{key}'.",
                )
        for key in link.writes:
            if key in unread:
                raise BackboneError(
                    f"{name} is no chain of units: '{link.name}' writes '{key}' anew, which '{unread[key]}' wrote and "
                    "nobody has read",
                    "A name means one value at a time, so the first one would be lost",
                    f"Use another name for one of the two, or let '{link.name}' read '{key}'.",
                )
            unread[key] = link.name
        alive |= set(link.writes)
    if set(links[-1].writes) != set(outputs):
        raise BackboneError(
            f"{name} writes {', '.join(links[-1].writes)} in its last unit '{links[-1].name}', and the task reads "
            f"{', '.join(outputs)}",
            "What the last unit writes is the network's output, which the task judges",
            "Use the task's names for what the last unit writes, or another task.",
        )


def _blank(field: Field) -> Tensor:
    """Returns one sample of zeros; an image's bytes have been made numbers by its entry."""
    shape = [_RAGGED_SIZE if size is None else size for size in field.shape]
    return torch.zeros(1, *shape, dtype=torch.float32 if field.dtype == torch.uint8 else field.dtype)


def _probe(name: str, link: Link, values: Mapping[str, Tensor], *, is_image: bool) -> dict[str, Tensor]:
    module, arguments = link.module, [values[key] for key in link.reads]
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            returned = module(*arguments)
    except (RuntimeError, ValueError, AssertionError) as error:
        shapes = " and ".join(str(tuple(value.shape[1:])) for value in arguments)
        raise BackboneError(
            f"{name} cannot process its input: unit '{link.name}' rejects the shape {shapes} ({error})",
            f"The {'image size' if is_image else 'shape'} of the data and what the network was built for differ",
            f"Use {'data.image_shape=[C,H,W]' if is_image else 'data'} of the one it was built for, or another model.",
        ) from error
    finally:
        module.train(was_training)
    written = (returned,) if len(link.writes) == 1 else returned
    if not _are_tensors(written, len(link.writes)):
        raise BackboneError(
            f"{name} is no chain of units: '{link.name}' returns {_kinds(returned)} for {', '.join(link.writes)}",
            "Values between units are tensors with the samples first, because they are sent, queued and cut up",
            "Return one tensor for each name that the unit writes, in a tuple where there are several.",
        )
    return dict(zip(link.writes, written, strict=True))


def _are_tensors(written: Any, number: int) -> bool:
    is_sequence = isinstance(written, tuple | list) and len(written) == number
    return is_sequence and all(isinstance(value, Tensor) and value.ndim > 0 for value in written)


def _kinds(returned: Any) -> str:
    if isinstance(returned, tuple | list):
        return f"({', '.join(type(value).__name__ for value in returned)})"
    return type(returned).__name__


def _check_outputs(name: str, values: Mapping[str, Tensor], outputs: Fields) -> None:
    for key, field in outputs.items():
        shape = tuple(values[key].shape)
        wanted = (1, *field.shape)
        if len(shape) != len(wanted) or any(size not in (None, n) for n, size in zip(shape, wanted, strict=True)):
            raise BackboneError(
                f"{name} returns '{key}' of shape {shape} for one sample",
                f"The task reads it in the shape {wanted}",
                "Use a network whose output can be set to that: a classifier's number of classes, for example.",
            )


def _feature(value: Tensor, layout_of: LayoutOf, image: tuple[int, ...] | None) -> Feature:
    shape = tuple(value.shape[1:])
    layout, num_prefix_tokens = layout_of(value)
    if layout != "NLC" or image is None:
        return Feature(shape, layout, num_prefix_tokens)
    return Feature(shape, layout, num_prefix_tokens, token_grid(shape[0] - num_prefix_tokens, image[1], image[2]))


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
