"""Blocks without weights of their own: what they compute with is made from their neighbours' weights (RepL)."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from isograd.methods.repl.constant import constant_kernels
from isograd.methods.repl.synthesis import Synthesis
from isograd.models.backbone import Backbone
from isograd.partition.partition import Partition


class Always(nn.Module):
    """The scales learn in every step."""

    def forward(self) -> bool:
        """Returns whether they learn in this pass."""
        return True


class EveryNth(nn.Module):
    """The scales learn in every n-th training step: n, 2 n, ...

    Which one it is depends only on the buffer ``num_steps``, the training passes so far. It is part of checkpoints, so
    a resumed run and any executor agree.

    Args:
        every: n.
    """

    num_steps: Tensor

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))
        self._known = (0, self.num_steps, -1)
        # Here and not as a decorator: it imports the compiler, which takes a second that only this mode has to spend.
        self._uncompiled_tick = cast("Callable[[EveryNth], bool]", torch.compiler.disable(EveryNth._tick))

    def forward(self) -> bool:
        """Counts a pass in training mode; returns whether the scales learn in it."""
        return self.training and self._uncompiled_tick(self)

    def _tick(self) -> bool:
        count = self._count() + 1
        self.num_steps.add_(1)
        self._known = (count, self.num_steps, self.num_steps._version)
        return count % self.every == 0

    def _count(self) -> int:
        """Returns the buffer's value. It reads it only where another has written to it: on a GPU, reading waits."""
        count, tensor, version = self._known
        return count if tensor is self.num_steps and version == tensor._version else int(self.num_steps)


class Replaced(nn.Module):
    """A block that runs on weights made from its neighbours' at every pass.

    Its parameters and buffers are its own only: the scales, and what is not synthesised, such as running statistics.

    Args:
        block: What is computed. Its parameters that are synthesised are taken out of it.
        synthesis: Makes them.
        previous: The block before, which is kept.
        following: The block after, which is kept.
        detach: Whether the neighbours get no gradient from here.
        pace: Tells in which passes what is synthesised is part of the graph; in the others it is constant.

    Shapes:
        Those of the block.
    """

    def __init__(
        self,
        block: nn.Module,
        synthesis: Synthesis,
        previous: nn.Module,
        following: nn.Module,
        *,
        detach: bool,
        pace: nn.Module,
    ) -> None:
        super().__init__()
        self.block = without(block, synthesis.targets)
        self.synthesis = synthesis
        self.pace = pace
        self.detach = detach
        # A tuple, so that they are not registered: their weights belong to their own units. Copying a whole local
        # module copies the neighbours once, and these references with them.
        self.neighbours = (previous, following)

    def forward(self, value: Tensor) -> Tensor:
        """Returns the block's output."""
        with torch.set_grad_enabled(self.pace() and torch.is_grad_enabled()):
            weights = self.weights()
        with constant_kernels(weights.values()):
            return functional_call(self.block, weights, (value,))

    def weights(self) -> dict[str, Tensor]:
        """Returns the synthesised tensors by their names in the block."""
        previous, following = (self._tensors(neighbour) for neighbour in self.neighbours)
        return self.synthesis(previous, following)

    def folded(self) -> nn.Module:
        """Returns the block as an ordinary module, whose weights are those synthesised now."""
        block = copy.deepcopy(self.block)
        with torch.no_grad():
            for name, tensor in self.weights().items():
                _put(block, name, nn.Parameter(tensor.clone()))
        return block

    def _tensors(self, neighbour: nn.Module) -> dict[str, Tensor]:
        return {name: weight.detach() if self.detach else weight for name, weight in neighbour.named_parameters()}


def without(block: nn.Module, names: Iterable[str]) -> nn.Module:
    """Takes parameters out of a block; it runs only with others in their place. Returns the block."""
    for name in names:
        _put(block, name, None)
    return block


def fold(backbone: Backbone) -> Backbone:
    """Returns a backbone for inference, without synthesis: every replaced unit holds its weights of this moment.

    Its outputs equal the given backbone's bit for bit, in every mode: the same kernels run on the same numbers. It
    shares no memory with it.
    """
    return _rebuilt(backbone, copy.deepcopy)


def plain(partition: Partition) -> Partition:
    """Returns the partition with ordinary blocks, as :func:`fold` makes them, in place of the replaced ones.

    Auxiliary networks that are built like later blocks, or begin as copies of them, are built from it. All other units
    are the given ones.
    """
    return replace(partition, backbone=_rebuilt(partition.backbone, lambda module: module))


def _rebuilt(backbone: Backbone, keep: Callable[[nn.Module], nn.Module]) -> Backbone:
    def rebuilt(module: nn.Module) -> nn.Module:
        return module.folded() if isinstance(module, Replaced) else keep(module)

    return replace(backbone, units=tuple(replace(unit, module=rebuilt(unit.module)) for unit in backbone.units))


def _put(block: nn.Module, name: str, weight: nn.Parameter | None) -> None:
    path, _, leaf = name.rpartition(".")
    block.get_submodule(path).register_parameter(leaf, weight)
