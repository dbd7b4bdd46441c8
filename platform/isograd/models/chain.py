"""Any image classifier -> units over named values, found in the graph of its own forward.

Only the *glue* is traced, the code between the blocks. A network is cut wherever exactly one tensor is alive; where
that leaves a heavy knot (a long skip, parallel branches), the knot is cut between its blocks, and several values cross.
Values that do not depend on the images (position embeddings, rotary tables) are no obstacle: each unit that uses them
gets its own copy of the code that makes them. Neither are heights and widths, which the image size fixes.
"""

import operator
from collections.abc import Mapping, Sequence
from functools import reduce

import torch
from torch import nn

from isograd.errors import BackboneError
from isograd.models.assembly import Link
from isograd.models.backbone import MAIN, Classifier
from isograd.models.library import REFUSALS
from isograd.models.segments import Flow, Segment, build, observe
from isograd.models.tracing import Expand, fix_sizes, fold_constants, trace

_MIN_UNITS = 3


def chain(name: str, model: nn.Module, expand: Expand, wanted: Classifier) -> list[Link]:
    """Cuts a network into named modules that, run in order, equal its forward bit for bit, also in training.

    The modules share their parameters with ``model``. Everything before the first block is ``stem``, everything after
    the last one ``head``; a block has its path as its name, ``layer1.0``. Each begins with weights (a convolution, a
    linear layer): normalisation, activation and pooling belong to the weights before them, so that a unit is worth a
    local module and never writes into its input. Between blocks of a knot, the cut is where the least is alive.

    The value that a unit has made last is called ``x``, so it is where nothing else is alive; others have the name of
    the unit that has made them.

    Args:
        name: For messages.
        model: A classifier of images, (B, C, H, W) -> (B, Y).
        expand: Tells, from its path and itself, whether a module is traced through rather than kept as a block.
        wanted: What images and logits are like, and called.

    Raises:
        BackboneError: The network cannot be traced or cut, or cannot process images of this shape.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        input_shape = wanted.input_shape
        graph, closed = trace(name, model, expand)
        try:
            fix_sizes(model, graph, input_shape)
            fold_constants(model, graph)
            flow = observe(model, graph, input_shape)
        except REFUSALS as error:
            raise BackboneError(
                f"{name} cannot process images of shape {input_shape} ({error})",
                "The image size of the data and the one that the network was built for differ",
                "Use data.image_shape=[C,H,W] with the size it was built for, or another architecture.",
            ) from error
    links = _link(model, flow, _cut(name, model, flow, closed), wanted)
    _require_disjoint(name, links)
    return links


def _cut(name: str, model: nn.Module, flow: Flow, closed: Mapping[str, str]) -> list[tuple[str, Segment]]:
    """Cuts where one value is alive; then, while that does not do, the heaviest segment that can be cut further."""
    cuts = flow.single_cuts()
    while True:
        segments = flow.segments(cuts)
        units = _units(model, segments)
        by_weight = sorted(segments, key=lambda segment: segment.num_weights, reverse=True)
        total = sum(segment.num_weights for segment in segments)
        if len(units) >= _MIN_UNITS and 3 * by_weight[0].num_weights <= 2 * total:
            return units
        more = next((within for segment in by_weight if (within := flow.cuts_within(segment) - cuts)), None)
        if more is None:
            raise _refusal(name, by_weight[0], total, flow.find_obstacle(by_weight[0]), closed)
        cuts |= more


def _link(model: nn.Module, flow: Flow, units: list[tuple[str, Segment]], wanted: Classifier) -> list[Link]:
    """Builds the modules, and gives every value that crosses a cut a name."""
    names = {flow.images: wanted.input_name}
    links: list[Link] = []
    for position, (unit_name, segment) in enumerate(units):
        given, is_last = dict(names), position == len(units) - 1
        # What was the main value, and is still needed, goes on under the name of the unit that wrote it.
        passed = [value for value in segment.leaving if names.get(value) == MAIN]
        main, *others = segment.writes
        names[main] = wanted.output_name if is_last else MAIN
        taken = {MAIN, *(names[value] for value in segment.leaving if value in names)}
        for value in (*passed, *others):
            names[value] = _free_name(links[-1].name if value in passed else unit_name, taken)
            taken.add(names[value])
        reads, writes = tuple(dict.fromkeys((*segment.reads, *passed))), (main, *passed, *others)
        module = build(model, segment, reads, writes)
        keys = tuple(given[value] for value in reads), tuple(names[value] for value in writes)
        links.append(Link(unit_name, module, *keys))
    return links


def _free_name(writer: str, taken: set[str]) -> str:
    candidates = (writer, *(f"{writer}:{number}" for number in range(1, len(taken) + 2)))
    return next(name for name in candidates if name not in taken)


def _units(model: nn.Module, segments: list[Segment]) -> list[tuple[str, Segment]]:
    """Merges segments into named units: the stem, one for each segment of the body that has weights, the head."""
    first, last = _body(model, segments)
    stem, body, head = segments[:first], segments[first : last + 1], segments[last + 1 :]
    container = segments[last].path.rpartition(".")[0]  # of VGG's layers: its last activation and pooling are no head
    while container and head and not head[0].num_weights and head[0].containers == {container}:
        body.append(head.pop(0))
    if stem and not any(segment.num_weights for segment in stem):
        body[0], stem = reduce(operator.add, [*stem, body[0]]), []
    merged: list[Segment] = []
    for segment in body:
        if segment.num_weights or not merged:
            merged.append(segment)
        else:
            merged[-1] += segment
    paths = [segment.path for segment in merged]
    units = [(s.path if paths.count(s.path) == 1 else next(iter(s.weights)), s) for s in merged]
    if stem:
        units.insert(0, ("stem", reduce(operator.add, stem)))
    if head:
        units.append(("head", reduce(operator.add, head)))
    return units


def _body(model: nn.Module, segments: list[Segment]) -> tuple[int, int]:
    """Returns the positions of the first and the last block.

    A block has two weights or more, or takes the place of one (a fused convolution block of EfficientNet). Where the
    blocks so found do not make up the network, the layers inside containers are the blocks (VGG). The classifier has
    none, and the first weights are a stem if they are a direct child of the network.
    """
    weighted = [segment for segment in segments if segment.num_weights]
    classifier = weighted[-1].path.partition(".")[0]
    inner = [segment for segment in weighted if segment.path.partition(".")[0] != classifier] or weighted
    nested = [segment for segment in inner if "." in segment.path]
    blocks = [s for s in inner if s.num_weights > 1 and not (s is weighted[0] and s not in nested)]
    stages = {segment.stage for segment in blocks} - {""}
    blocks += [s for s in nested if s.stage in stages and any(model.get_submodule(s.path).children())]
    if 2 * sum(segment.num_weights for segment in blocks) < sum(segment.num_weights for segment in inner):
        blocks = nested or inner
    positions = [position for position, segment in enumerate(segments) if segment in blocks]
    return positions[0], positions[-1]


def _refusal(name: str, knot: Segment, num_weights: int, obstacle: str, closed: Mapping[str, str]) -> BackboneError:
    paths = list(knot.weights)
    heaviest = max(knot.weights, key=lambda path: knot.weights[path])
    reason = f"between them there is {obstacle}" if obstacle else f"{heaviest} is one block"
    if 2 * knot.weights[heaviest] > knot.num_weights and heaviest in closed:
        reason = f"the code of {heaviest} cannot be traced ({closed[heaviest]})"
    return BackboneError(
        f"{name} is no chain of units: {knot.num_weights} of its {num_weights} weights, in "
        f"{' ... '.join(sorted({paths[0], paths[-1]}, key=paths.index))}, cannot be cut apart: {reason}",
        "What crosses a cut are tensors with the samples first, and local modules need units of comparable size",
        "Choose another architecture, or write a backbone of its own in isograd/models.",
    )


def _require_disjoint(name: str, links: Sequence[Link]) -> None:
    owner: dict[nn.Parameter, Link] = {}
    for link in links:
        for path, parameter in link.module.named_parameters():
            if (other := owner.setdefault(parameter, link)) is not link:
                raise BackboneError(
                    f"{name} is no chain of units: '{other.name}' and '{link.name}' share the parameter '{path}'",
                    "Each parameter is trained by one local module",
                    "Choose an architecture without shared weights, or switch the sharing off in model.kwargs.",
                )
