"""Where a network can be cut: its graph as segments, between which nothing is alive but features."""

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from posixpath import commonpath
from typing import Any

import torch
from torch import Tensor, fx, nn

from isograd.models.tracing import Runner

_BATCH_SIZE = 2  # of the run that looks at the values: batch normalisation needs two samples


@dataclass(frozen=True, eq=False)
class Segment:
    """A piece of the graph.

    Attributes:
        nodes: In order, without those that do not depend on the images.
        entering: The values that are alive before it.
        leaving: The values that are alive after it.
        weights: Paths of the modules that it calls -> how many weights (matrices, kernels; no scales) they have.
    """

    nodes: tuple[fx.Node, ...]
    entering: tuple[fx.Node, ...]
    leaving: tuple[fx.Node, ...]
    weights: dict[str, int]

    @property
    def reads(self) -> tuple[fx.Node, ...]:
        """The values that it uses, in the order in which it does."""
        used = dict.fromkeys(value for node in self.nodes for value in node.all_input_nodes)
        return tuple(value for value in used if value in self.entering)

    @property
    def writes(self) -> tuple[fx.Node, ...]:
        """The values that it makes for later ones; its main one, the last that its weights have made, comes first."""
        learnt: set[fx.Node] = set()
        for node in self.nodes:
            if self.weights.get(str(node.target)) or not learnt.isdisjoint(node.all_input_nodes):
                learnt.add(node)
        made = [value for value in reversed(self.leaving) if value in self.nodes]
        return tuple(sorted(made, key=lambda value: value not in learnt))

    @property
    def num_weights(self) -> int:
        """Weights of all its modules."""
        return sum(self.weights.values())

    @property
    def path(self) -> str:
        """Path of the module with the weights; of their container where there are several."""
        weighted = [path.replace(".", "/") for path, num_weights in self.weights.items() if num_weights]
        return commonpath(weighted).replace("/", ".") or next(iter(self.weights))

    @property
    def stage(self) -> str:
        """``features`` for the path ``features.1.0``: what holds the containers of blocks."""
        return ".".join(self.path.split(".")[:-2])

    @property
    def containers(self) -> set[str]:
        """Paths of what holds its modules."""
        return {path.rpartition(".")[0] for path in self.weights}

    def __add__(self, other: "Segment") -> "Segment":
        return Segment(self.nodes + other.nodes, self.entering, other.leaving, self.weights | other.weights)


@dataclass(frozen=True)
class Flow:
    """What becomes of the images, step by step.

    Attributes:
        images: The network's input.
        nodes: What depends on it, in order.
        alive: After each node: the values that later ones use.
        sizes: After each node: elements of all values that are alive.
        obstacles: After each node: why it cannot be cut there, since not all values that are alive are features that
            nothing later writes into; empty where it can.
        weights: Of each node: how many weights the module has that it calls.
    """

    images: fx.Node
    nodes: tuple[fx.Node, ...]
    alive: tuple[tuple[fx.Node, ...], ...]
    sizes: tuple[int, ...]
    obstacles: tuple[str, ...]
    weights: tuple[int, ...]

    def single_cuts(self) -> set[int]:
        """Returns the nodes after which one value is alive, and not the images."""
        return {
            at
            for at, alive in enumerate(self.alive)
            if len(alive) == 1 and alive != (self.images,) and not self.obstacles[at]
        }

    def cuts_within(self, segment: Segment) -> set[int]:
        """Returns one cut between every two modules with weights of a segment, where the least is alive.

        Of several such places it is the last one: what has no weights belongs to the weights before it.
        """
        start = self.nodes.index(segment.nodes[0])
        weighted = [at for at in range(start, start + len(segment.nodes)) if self.weights[at]]
        cuts: set[int] = set()
        for first, second in itertools.pairwise(weighted):
            places = [at for at in range(first, second) if not self.obstacles[at]]
            cuts |= {min(places, key=lambda at: (self.sizes[at], -at))} if places else set()
        return cuts

    def find_obstacle(self, segment: Segment) -> str:
        """Returns what keeps most of a segment's modules with weights together; empty where it has one such module."""
        start = self.nodes.index(segment.nodes[0])
        weighted = [at for at in range(start, start + len(segment.nodes)) if self.weights[at]]
        return Counter(self.obstacles[weighted[0] : weighted[-1]]).most_common(1)[0][0] if len(weighted) > 1 else ""

    def segments(self, cuts: Iterable[int]) -> list[Segment]:
        """Returns the pieces between cuts; one that makes nothing for later ones belongs to its neighbour."""
        segments: list[Segment] = []
        begin, entering = 0, (self.images,)
        for at in sorted({*cuts, len(self.nodes) - 1}):
            piece = self.nodes[begin : at + 1]
            weights = {str(n.target): self.weights[begin + i] for i, n in enumerate(piece) if n.op == "call_module"}
            segment = Segment(piece, entering, self.alive[at], weights)
            if segment.writes:
                segments.append(segment)
                begin, entering = at + 1, self.alive[at]
            elif at == len(self.nodes) - 1:
                segments[-1] += segment
        return segments


class _Observer(Runner):
    """Notes, whenever a node has run, the values that are alive, and how often they have been written to."""

    def __init__(self, model: nn.Module, graph: fx.Graph, alive: dict[fx.Node, tuple[fx.Node, ...]]) -> None:
        super().__init__(model, graph)
        self._alive = alive
        self.notes: dict[fx.Node, list[tuple[Any, int]]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        values = [value if other is n else self.env[other] for other in self._alive.get(n, ())]
        self.notes[n] = [(value, getattr(value, "_version", 0)) for value in values]
        return value


def observe(model: nn.Module, graph: fx.Graph, input_shape: tuple[int, int, int]) -> Flow:
    """Runs a graph once in training mode, on blank images, and tells where it can be cut."""
    images, nodes, alive = _find_alive(graph)
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    observer = _Observer(model, graph, dict(zip(nodes, alive, strict=True)))
    observer.run(torch.zeros(_BATCH_SIZE, *input_shape))
    for buffer, original in buffers:
        buffer.copy_(original)
    notes = [observer.notes[node] for node in nodes]
    return Flow(
        images,
        nodes,
        alive,
        tuple(sum(getattr(value, "nbytes", 0) for value, _ in values) for values in notes),
        tuple(next(filter(None, (_obstacle(*note, input_shape) for note in values)), "") for values in notes),
        tuple(_count_weights(model, node) for node in nodes),
    )


def _find_alive(graph: fx.Graph) -> tuple[fx.Node, tuple[fx.Node, ...], tuple[tuple[fx.Node, ...], ...]]:
    """Returns the images, the nodes that depend on them, and what is alive after each of these."""
    images = next(iter(graph.nodes))
    last_use: dict[fx.Node, int] = {images: -1}
    nodes: list[fx.Node] = []
    for node in graph.nodes:
        inputs = [value for value in node.all_input_nodes if value in last_use]
        if inputs:
            last_use.update(dict.fromkeys(inputs, len(nodes)))
            last_use[node] = -1
            nodes.append(node)
    nodes.pop()  # the output
    alive: list[tuple[fx.Node, ...]] = []
    for position, node in enumerate(nodes):
        before = alive[-1] if alive else (images,)
        alive.append(tuple(value for value in (*before, node) if last_use[value] > position))
    return images, tuple(nodes), tuple(alive)


def _obstacle(value: Any, version: int, input_shape: tuple[int, int, int]) -> str:
    """Returns why a value cannot cross a cut; empty: it can."""
    if not isinstance(value, Tensor):
        return f"a value of type {type(value).__name__}"
    shape = f"a tensor of shape {tuple(value.shape)} for {_BATCH_SIZE} samples"
    if not value.is_floating_point():
        return f"{shape}, of {value.dtype}"
    is_map = value.ndim == 4 and input_shape[1] == input_shape[2]
    is_square = is_map and (value.shape[1] == value.shape[2] or value.shape[2] == value.shape[3])
    if len(value) != _BATCH_SIZE or value.ndim not in (2, 3, 4) or is_map != is_square:
        return shape
    return "" if value._version == version else f"{shape}, which is written into later"


def _count_weights(model: nn.Module, node: fx.Node) -> int:
    if node.op != "call_module":
        return 0
    shapes = [parameter.shape for parameter in model.get_submodule(str(node.target)).parameters()]
    return sum(shape.numel() > shape[0] for shape in shapes if len(shape) > 1)


def build(model: nn.Module, segment: Segment, reads: tuple[fx.Node, ...], writes: tuple[fx.Node, ...]) -> nn.Module:
    """Returns a module that computes ``writes`` from ``reads``.

    It is the block itself where the segment is nothing but one call of it, else a graph over the same modules.
    """
    only = segment.nodes[0]
    is_call = only.op == "call_module" and only.args == reads and not only.kwargs
    if is_call and segment.nodes == writes:
        return model.get_submodule(str(only.target))
    graph = fx.Graph()
    copies = {value: graph.placeholder(f"x{number or ''}") for number, value in enumerate(reads)}

    def copy(node: fx.Node) -> None:
        for value in node.all_input_nodes:
            if value not in copies:  # does not depend on the images
                copy(value)
        copies[node] = graph.node_copy(node, copies.__getitem__)

    for node in segment.nodes:
        copy(node)
    written = [copies[value] for value in writes]
    graph.output(tuple(written) if len(written) > 1 else written[0])
    return fx.GraphModule(model, graph, class_name="Unit")
