"""Any image classifier -> chain of units, found in the graph of its own forward.

Only the *glue* is traced, the code between the blocks. Blocks stay the modules they are, so that dropout, drop path and
batch normalisation inside them follow ``train()`` and ``eval()``. A network can be cut wherever exactly one tensor is
alive. Values that do not depend on the images (position embeddings, rotary tables) are no obstacle: each unit that
uses them gets its own copy of the code that makes them. Neither are heights and widths, which ``input_shape`` fixes.
"""

import inspect
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from posixpath import commonpath
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from isograd.errors import BackboneError, ConfigError

Expand = Callable[[str, nn.Module], bool]

_MIN_UNITS = 3
_REFUSALS = (RuntimeError, ValueError, AssertionError, ArithmeticError, LookupError)  # of a size that does not fit


def chain(
    name: str, model: nn.Module, expand: Expand, *, input_shape: tuple[int, int, int]
) -> list[tuple[str, nn.Module]]:
    """Cuts a network into named modules that, run in order, equal its forward bit for bit, also in training.

    The modules share their parameters with ``model``. Everything before the first block is ``stem``, everything after
    the last one ``head``; a block has its path as its name, ``layer1.0``. Each begins with weights (a convolution, a
    linear layer): normalisation, activation and pooling belong to the weights before them, so that a unit is worth a
    local module and never writes into its input.

    Args:
        name: For messages.
        model: A classifier of images, (B, C, H, W) -> (B, Y).
        expand: Tells, from its path and itself, whether a module is traced through rather than kept as a block.
        input_shape: (C, H, W) of one image.

    Raises:
        BackboneError: The network is no chain, cannot be traced, or cannot process images of this shape.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        graph = _trace(name, model, expand)
        try:
            _fix_sizes(model, graph, input_shape)
            _fold_constants(model, graph)
            segments = _merge_unsafe(model, _segments(model, graph), input_shape)
        except _REFUSALS as error:
            raise BackboneError(
                f"{name} cannot process images of shape {input_shape} ({error})",
                "The image size of the data and the one that the network was built for differ",
                "Use data.image_shape=[C,H,W] with the size it was built for, or another architecture.",
            ) from error
    units = _units(model, segments)
    _require_chain(name, segments, units)
    modules = [(unit_name, _build(model, unit)) for unit_name, unit in units]
    _require_disjoint(name, modules)
    return modules


class _GlueTracer(fx.Tracer):
    def __init__(self, expand: Expand) -> None:
        super().__init__(param_shapes_constant=True)
        self._expand = expand

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not self._expand(module_qualified_name, m)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict) -> Any:
        num_nodes = len(self.graph.nodes)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:  # glue that fx cannot follow, with whatever error: the smallest module around it stays whole
            for node in reversed(list(self.graph.nodes)[num_nodes:]):
                self.graph.erase_node(node)
            return self.create_proxy("call_module", self.path_of_module(m), args, kwargs)

    def create_proxy(self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict, *rest: Any, **more: Any) -> Any:
        # The graph would freeze the `training` flag of a functional dropout; as a module it follows train() and eval().
        if target is functional.dropout:
            kind, target = "call_module", f"glue_dropout_{len(self.graph.nodes)}"
            self.root.add_module(target, nn.Dropout(kwargs["p"], kwargs["inplace"]))
            kwargs = {}
        return super().create_proxy(kind, target, args, kwargs, *rest, **more)


def _trace(name: str, model: nn.Module, expand: Expand) -> fx.Graph:
    """Traces in both modes, because anything in the glue that depends on ``training`` would be frozen."""
    parameters = list(inspect.signature(model.forward).parameters.values())
    defaults = {p.name: p.default for p in parameters[1:] if p.default is not p.empty}
    graphs: list[fx.Graph] = []
    try:
        for training in (False, True):
            model.train(training)
            graphs.append(_GlueTracer(expand).trace(model, concrete_args=defaults))
    except Exception as error:  # fx raises what the network's own code raises on a symbolic value: anything
        raise BackboneError(
            f"{name} cannot be cut: the code between its blocks cannot be traced ({type(error).__name__}: {error})",
            "Its units are found in that code",
            "Choose another architecture, or write a backbone of its own in isograd/models.",
        ) from error
    if not _same(model, graphs) or not isinstance(graphs[0].output_node().args[0], fx.Node):
        raise BackboneError(
            f"{name} is no chain of units: it has several outputs, or runs other code in training than in evaluation",
            "Such a network has a branch, often an auxiliary classifier, and a unit maps one tensor to one tensor",
            "Choose another architecture, or switch the branch off in model.kwargs (aux_logits: false).",
        )
    return graphs[-1]


def _same(model: nn.Module, graphs: list[fx.Graph]) -> bool:
    """Whether all graphs do the same; constants are numbered anew by each trace, so they are compared by value."""
    sources = {re.sub(r"_tensor_constant\d+", "constant", graph.python_code("self").src) for graph in graphs}
    constants = [[operator.attrgetter(n.target)(model) for n in g.nodes if n.op == "get_attr"] for g in graphs]
    return len(sources) == 1 and all(torch.equal(*pair) for pair in zip(*constants, strict=True))


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the numbers in it: heights, widths, and what follows from them."""

    numbers: dict[fx.Node, Any]

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[tuple, dict]:
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        return tuple(list(arg) if isinstance(arg, list) else arg for arg in args), kwargs  # fx makes lists immutable

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        items = tuple(value) if isinstance(value, tuple | list) else (value,)
        if all(isinstance(item, int | float) for item in items):
            self.numbers[n] = items if isinstance(value, tuple | list) else value
        return value


def _fix_sizes(model: nn.Module, graph: fx.Graph, input_shape: tuple[int, int, int]) -> None:
    """Puts literals in the place of numbers that do not depend on the batch size."""
    model.eval()
    first, second = _Recorder(model, graph=graph), _Recorder(model, graph=graph)
    for batch_size, recorder in enumerate((first, second), start=1):
        recorder.numbers, recorder.extra_traceback = {}, False
        recorder.run(torch.zeros(batch_size, *input_shape))
    model.train()
    fixed = {n: number for n, number in first.numbers.items() if second.numbers.get(n) == number}
    for node in graph.nodes:
        node.args, node.kwargs = fx.map_arg((node.args, node.kwargs), lambda n: fixed.get(n, n))
    for node in reversed(first.numbers):  # shapes as well, whose numbers are now literals
        if not node.users and node.op != "placeholder":
            graph.erase_node(node)


def _fold_constants(model: nn.Module, graph: fx.Graph) -> None:
    """Computes once what depends on literals and buffers only; as a buffer, it moves to the device of its unit."""
    interpreter = fx.Interpreter(model, graph=graph)
    known = interpreter.env
    for node in graph.nodes:
        is_buffer = node.op == "get_attr" and not isinstance(operator.attrgetter(node.target)(model), nn.Parameter)
        is_code = node.op in ("call_function", "call_method")
        if is_buffer or (is_code and all(value in known for value in node.all_input_nodes)):
            known[node] = interpreter.run_node(node)
    for node, value in known.items():
        if isinstance(value, Tensor) and node.op != "get_attr" and not known.keys() >= node.users.keys():
            model.register_buffer(f"glue_{node.name}", value, persistent=False)
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.get_attr(f"glue_{node.name}"))


@dataclass(frozen=True, eq=False)
class _Segment:
    """A piece of the graph with one value in and one out.

    Attributes:
        nodes: In order, without those that do not depend on the images.
        start, end: The values.
        weights: Paths of the modules that it calls -> how many weights (matrices, kernels; no scales) they have.
    """

    nodes: tuple[fx.Node, ...]
    start: fx.Node
    end: fx.Node
    weights: dict[str, int]

    @property
    def num_weights(self) -> int:
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

    def __add__(self, other: "_Segment") -> "_Segment":
        return _Segment(self.nodes + other.nodes, self.start, other.end, self.weights | other.weights)


def _segments(model: nn.Module, graph: fx.Graph) -> list[_Segment]:
    """Splits the graph wherever a single value is alive."""
    start, nodes, last_use = _varying(graph)
    segments: list[_Segment] = []
    alive, begin = {start}, 0
    for position, node in enumerate(nodes):
        alive = {value for value in (*alive, node) if last_use[value] > position}
        if len(alive) == 1 and start not in alive:
            (end,) = alive
            piece = tuple(nodes[begin : position + 1])
            paths = [str(n.target) for n in piece if n.op == "call_module"]
            weights = {path: _num_weights(model.get_submodule(path)) for path in paths}
            segments.append(_Segment(piece, start, end, weights))
            start, begin = end, position + 1
    return segments


def _num_weights(module: nn.Module) -> int:
    return sum(parameter.ndim > 1 and parameter[0].numel() > 1 for parameter in module.parameters())


def _varying(graph: fx.Graph) -> tuple[fx.Node, list[fx.Node], dict[fx.Node, int]]:
    """Returns the images, the nodes that depend on them, and the position at which each value is last used."""
    images = next(iter(graph.nodes))
    last_use: dict[fx.Node, int] = {images: -1}
    nodes: list[fx.Node] = []
    for node in graph.nodes:
        inputs = [value for value in node.all_input_nodes if value in last_use]
        if inputs:
            last_use.update(dict.fromkeys(inputs, len(nodes)))
            last_use[node] = -1
            nodes.append(node)
    return images, nodes[:-1], last_use


def _merge_unsafe(model: nn.Module, segments: list[_Segment], input_shape: tuple[int, int, int]) -> list[_Segment]:
    """Runs the segments in training mode; merges one with its predecessor where no unit may begin.

    That is where the value is no feature (a tuple, a shape, a map in blocks), or is written to by what follows.
    """
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    value: Any = torch.zeros(2, *input_shape)
    merged: list[_Segment] = []
    for segment in segments:
        is_feature, version = _is_feature(value, input_shape), getattr(value, "_version", 0)
        output = _build(model, segment)(value)
        if merged and not (is_feature and version == value._version):
            merged[-1] += segment
        else:
            merged.append(segment)
        value = output
    for buffer, original in buffers:
        buffer.copy_(original)
    return merged


def _is_feature(value: Any, input_shape: tuple[int, int, int]) -> bool:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return False
    if value.ndim == 4 and input_shape[1] == input_shape[2]:
        return value.shape[1] == value.shape[2] or value.shape[2] == value.shape[3]
    return value.ndim in (2, 3, 4)


def _build(model: nn.Module, segment: _Segment) -> nn.Module:
    """Returns the block itself where the segment is nothing but one call of it, else a graph over the same modules."""
    only = segment.nodes[0]
    if len(segment.nodes) == 1 and only.op == "call_module" and only.args == (segment.start,) and not only.kwargs:
        return model.get_submodule(str(only.target))
    graph = fx.Graph()
    copies = {segment.start: graph.placeholder("x")}

    def copy(node: fx.Node) -> None:
        for value in node.all_input_nodes:
            if value not in copies:  # does not depend on the images
                copy(value)
        copies[node] = graph.node_copy(node, copies.__getitem__)

    for node in segment.nodes:
        copy(node)
    graph.output(copies[segment.end])
    return fx.GraphModule(model, graph, class_name="Unit")


def _units(model: nn.Module, segments: list[_Segment]) -> list[tuple[str, _Segment]]:
    """Merges segments into named units: the stem, one for each segment of the body that has weights, the head."""
    first, last = _body(model, segments)
    stem, body, head = segments[:first], segments[first : last + 1], segments[last + 1 :]
    container = segments[last].path.rpartition(".")[0]  # of VGG's layers: its last activation and pooling are no head
    while container and head and not head[0].num_weights and _containers(head[0]) == {container}:
        body.append(head.pop(0))
    if stem and not any(segment.num_weights for segment in stem):
        body[0], stem = reduce(operator.add, [*stem, body[0]]), []
    merged: list[_Segment] = []
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


def _containers(segment: _Segment) -> set[str]:
    return {path.rpartition(".")[0] for path in segment.weights}


def _body(model: nn.Module, segments: list[_Segment]) -> tuple[int, int]:
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


def _require_chain(name: str, segments: list[_Segment], units: list[tuple[str, _Segment]]) -> None:
    num_weights = sum(segment.num_weights for segment in segments)
    knot = max(segments, key=lambda segment: segment.num_weights)
    paths = list(knot.weights)
    if len(units) >= _MIN_UNITS and 3 * knot.num_weights <= 2 * num_weights:
        return
    later = set(knot.nodes[len(knot.nodes) // 2 :])
    alive = [
        str(n.target) if n.op == "call_module" else n.name for n in knot.nodes if n not in later and later & {*n.users}
    ]
    reason = "its code cannot be traced, or passes on something else than one tensor"
    if len(alive) > 1:
        reason = f"{len(alive)} values are alive at once in its middle, the outputs of {', '.join(alive[:4])}"
    raise BackboneError(
        f"{name} is no chain of units: {knot.num_weights} of its {num_weights} weights, in "
        f"{' ... '.join(sorted({paths[0], paths[-1]}, key=paths.index))}, cannot be cut apart; {reason}",
        "A unit maps one tensor to one tensor, and local modules need units of comparable size",
        "Choose another architecture, or write a backbone of its own in isograd/models.",
    )


def _require_disjoint(name: str, modules: Sequence[tuple[str, nn.Module]]) -> None:
    owner: dict[nn.Parameter, str] = {}
    for unit_name, module in modules:
        for path, parameter in module.named_parameters():
            if owner.setdefault(parameter, unit_name) != unit_name:
                raise BackboneError(
                    f"{name} is no chain of units: '{owner[parameter]}' and '{unit_name}' share the parameter '{path}'",
                    "Each parameter is trained by one local module",
                    "Choose an architecture without shared weights, or switch the sharing off in model.kwargs.",
                )


def construct(name: str, make: Callable[..., nn.Module], kwargs: dict[str, Any], optional: dict[str, Any]) -> nn.Module:
    """Calls ``make`` with ``kwargs``, which it must take, and with those of ``optional`` that it takes.

    Raises:
        ConfigError: It rejects a keyword of ``kwargs``.
        BackboneError: It fails, for instance because of the image size, or because pretrained weights are missing.
    """
    options = {**optional, **kwargs}
    try:
        return make(**options)
    except TypeError as error:
        quoted = set(re.findall(r"'(\w+)'", str(error)))
        rejected = quoted & (optional.keys() - kwargs.keys())
        if rejected and not quoted & kwargs.keys():
            return construct(name, make, kwargs, {key: optional[key] for key in optional.keys() - rejected})
        raise ConfigError(
            f"{name} does not take these options: {kwargs} ({error})",
            "Each architecture has options of its own",
            "Correct model.drop_rate, model.drop_path_rate or model.kwargs, or use an architecture that takes them.",
        ) from error
    except (*_REFUSALS, OSError) as error:
        raise BackboneError(
            f"{name} cannot be built with {options}: {error}",
            "The architecture does not fit the image size of the data or these options",
            "Change model.kwargs or the architecture; without access to the internet, use model.pretrained=false.",
        ) from error
