"""The code between a network's blocks as a graph, in which blocks are single calls.

Blocks stay the modules they are, so that dropout, drop path and batch normalisation inside them follow ``train()`` and
``eval()``. Numbers that ``input_shape`` fixes become literals, and what depends on no image becomes a buffer.
"""

import inspect
import operator
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from isograd.errors import BackboneError

Expand = Callable[[str, nn.Module], bool]


def trace(name: str, model: nn.Module, expand: Expand) -> tuple[fx.Graph, dict[str, str]]:
    """Returns the graph of a network's forward, in training mode, and why modules stayed whole that were to be opened.

    It is traced in both modes, because anything in the glue that depends on ``training`` would be frozen.

    Raises:
        BackboneError: It cannot be traced, does not return one value, or does other things in training.
    """
    parameters = list(inspect.signature(model.forward).parameters.values())
    defaults = {p.name: p.default for p in parameters[1:] if p.default is not p.empty}
    graphs: list[fx.Graph] = []
    try:
        for training in (False, True):
            model.train(training)
            tracer = _GlueTracer(expand)
            graphs.append(tracer.trace(model, concrete_args=defaults))
    except Exception as error:  # fx raises what the network's own code raises on a symbolic value: anything
        raise BackboneError(
            f"{name} cannot be cut: the code between its blocks cannot be traced ({type(error).__name__}: {error})",
            "Its units are found in that code",
            "Choose another architecture, or write a backbone of its own in isograd/models.",
        ) from error
    if not _are_same(model, graphs) or not isinstance(graphs[0].output_node().args[0], fx.Node):
        raise BackboneError(
            f"{name} is no chain of units: it has several outputs, or runs other code in training than in evaluation",
            "Such a network has a branch, often an auxiliary classifier, and a unit maps one tensor to one tensor",
            "Choose another architecture, or switch the branch off in model.kwargs (aux_logits: false).",
        )
    return graphs[-1], tracer.closed


def _are_same(model: nn.Module, graphs: list[fx.Graph]) -> bool:
    """Whether all graphs do the same; constants are numbered anew by each trace, so they are compared by value."""
    sources = {re.sub(r"_tensor_constant\d+", "constant", graph.python_code("self").src) for graph in graphs}
    constants = [[operator.attrgetter(n.target)(model) for n in g.nodes if n.op == "get_attr"] for g in graphs]
    return len(sources) == 1 and all(a is b or torch.equal(a, b) for a, b in zip(*constants, strict=True))


class _GlueTracer(fx.Tracer):
    def __init__(self, expand: Expand) -> None:
        super().__init__(param_shapes_constant=True)
        self._expand = expand
        self.closed: dict[str, str] = {}  # path of a module -> why it cannot be traced through

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not self._expand(module_qualified_name, m)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict) -> Any:
        num_nodes, depth = len(self.graph.nodes), len(self.module_stack)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception as error:  # glue that fx cannot follow: the smallest module around it stays whole
            for node in reversed(list(self.graph.nodes)[num_nodes:]):
                self.graph.erase_node(node)
            while len(self.module_stack) > depth:
                self.module_stack.popitem()
            self.closed[self.path_of_module(m)] = f"{type(error).__name__}: {error}"
            return self.create_proxy("call_module", self.path_of_module(m), args, kwargs)

    def create_proxy(self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict, *rest: Any, **more: Any) -> Any:
        # The graph would freeze the `training` flag of a functional dropout; as a module it follows train() and eval().
        if target is functional.dropout:
            kind, target = "call_module", f"glue_dropout_{len(self.graph.nodes)}"
            self.root.add_module(target, nn.Dropout(kwargs["p"], kwargs["inplace"]))
            kwargs = {}
        return super().create_proxy(kind, target, args, kwargs, *rest, **more)


class Runner(fx.Interpreter):
    """Runs a graph node by node; errors stay as the network raises them."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        super().__init__(model, garbage_collect_values=False, graph=graph)
        self.extra_traceback = False

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[tuple, dict]:
        """Returns the arguments, with lists that the network may change: fx makes them immutable."""
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        return tuple(list(arg) if isinstance(arg, list) else arg for arg in args), kwargs


class _Recorder(Runner):
    """Keeps the numbers in a graph: heights, widths, and what follows from them."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        super().__init__(model, graph)
        self.numbers: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        items = tuple(value) if isinstance(value, tuple | list) else (value,)
        if all(isinstance(item, int | float) for item in items):
            self.numbers[n] = items if isinstance(value, tuple | list) else value
        return value


def fix_sizes(model: nn.Module, graph: fx.Graph, input_shape: tuple[int, int, int]) -> None:
    """Puts literals in the place of numbers that do not depend on the batch size."""
    model.eval()
    first, second = _Recorder(model, graph), _Recorder(model, graph)
    for batch_size, recorder in enumerate((first, second), start=1):
        recorder.run(torch.zeros(batch_size, *input_shape))
    model.train()
    fixed = {n: number for n, number in first.numbers.items() if second.numbers.get(n) == number}
    for node in graph.nodes:
        node.args, node.kwargs = fx.map_arg((node.args, node.kwargs), lambda n: fixed.get(n, n))
    for node in reversed(first.numbers):  # shapes as well, whose numbers are now literals
        if not node.users and node.op != "placeholder":
            graph.erase_node(node)


def fold_constants(model: nn.Module, graph: fx.Graph) -> None:
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
