"""RepL, Replacement Learning (Zhang, Wang, Zhang, Guan, Liu, Su, "Replacement Learning: Training Vision Tasks with
Fewer Learnable Parameters", 2024, arXiv 2410.01239; version 2: "Replacement Learning: Training Neural Networks with
Fewer Parameters", 2026, arXiv 2605.19533).

Every k-th block i loses its weights. It computes with what its neighbours' weights make together,

    theta_i = a_i theta_{i-1} + b_i theta_{i+1}        a_i, b_i learnable,

and the loss trains the kept blocks and the scales. This changes the backbone, not the loss, so it wraps any other
method: end-to-end backpropagation or a local one.
"""

import copy
import dataclasses
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from isograd.errors import ConfigError, PartitionError
from isograd.local.blocks import blocks_of
from isograd.local.method import METHODS
from isograd.methods.repl.replaced import Always, EveryNth, Replaced
from isograd.methods.repl.sites import Gap, gaps, is_whole
from isograd.methods.repl.surrogate import SurrogateConfig, surrogate
from isograd.methods.repl.synthesis import Blend, ScaleConfig, Sharing
from isograd.methods.repl.wrapping import Wrapping
from isograd.options import choice, number
from isograd.partition.partition import Even, Partition


@METHODS.register("repl")
class RepL(Wrapping):
    """Every k-th block runs on its neighbours' weights; the losses are another method's.

    What the arithmetic says of a replaced block, in comparison with an ordinary one of P weights:

    - ``scalar`` (version 1). 2 learnable numbers for P, and so much less gradient and optimizer state. Forward and
      backward FLOPs as before, because da = <dL/dtheta, theta_{i-1}> needs the whole gradient dL/dtheta. Activation
      memory as before, and theta itself besides, P numbers from forward to backward. So it saves no time.
    - ``surrogate`` (version 2). A basic block becomes one convolution: half the FLOPs and half the activations, forward
      and backward. A bottleneck keeps its FLOPs, and loses activations. ``parallel`` keeps a transformer block's FLOPs,
      and loses the 2 D numbers a token that one LayerNorm keeps. ``linear`` has D^2 multiply-adds a token for 12 D^2
      and attention, and two products of D x D matrices a step. Learnable: scales, and one normalisation.
    - ``lazy``. Learnable numbers as ``scalar``. In n - 1 of n steps there is no weight gradient: half of the block's
      backward FLOPs, a third of all. Its convolutions and linear layers keep no inputs, 6 D numbers a token in a
      transformer, but none in a ResNet, where ReLU keeps the same maps. The n-th step costs what ``scalar`` does, so
      peak memory is no less.
    - ``removed``, the first control: nothing is left of the block.
    - ``shared``, the second: nothing learnable, all else as before.

    Counted by :func:`isograd.planning.cost.costs` for ResNet-32 at k = 2 (thousand parameters; MFLOP forward and
    backward of an image): whole 467, 138 and 276; ``scalar`` 365, 138 and 276; ``surrogate``, which replaces 6 blocks
    where the others replace 4, 273, 111 and 219; ``lazy`` 365, 138 and 238; ``removed`` 365, 101 and 200; ``shared``
    365, 138 and 276. So a gain over the whole network may be that of a smaller one; only a gain over ``removed`` and
    ``shared`` is the method's own.

    Note:
        How the papers settle the following could not be had; these are our readings. Neighbours learn from their own
        use only (``detach_neighbours``). Affine weights of normalisations are mixed like all others; running statistics
        are the block's own. Which blocks are replaced is said at :func:`~isograd.methods.repl.sites.gaps`. Their
        weights have to agree with both neighbours' in names and shapes. A surrogate mixes other numbers of channels,
        too, and so replaces more blocks; ``removed`` replaces those that ``scalar`` does.

        A block whose weights the wrapped method averages (MAN, MLAAN) is kept. Auxiliary networks that are built like
        the backbone's blocks have ordinary ones.

        The scales carry ``no_weight_decay``, which is for the optimizer to honour. In a step in which ``lazy`` ones
        have no gradient, it leaves them alone: their SGD momentum does not move either.
    """

    @dataclass
    class Config:
        """Attributes:
        wraps: The method whose losses train the network.
        options: Of that method, those that differ from its defaults; ``method.options.NAME=VALUE`` sets one.
        interval: k, at least 2: within each stage the blocks k - 1, 2 k - 1, ... are replaced.
        mode: ``scalar``, ``surrogate`` or ``lazy``; the controls are ``removed`` and ``shared``.
        a: First value of the scales of the previous block's tensors.
        b: Of the following block's.
        learn_scales: Whether they are learnt.
        per_tensor: Whether each tensor has its own two. A fused kernel's always have.
        detach_neighbours: Whether kept blocks are trained through their own use only.
        every: n of ``lazy``: the scales learn in every n-th step.
        form: Of a transformer's surrogate: ``parallel`` or ``linear``.
        mixing: Of channels, where a surrogate's neighbours have others: ``average`` or ``learned``.
        """

        name: str = "repl"
        wraps: str = "e2e"
        options: dict[str, Any] = field(default_factory=dict, metadata={"options_of": "wraps"})
        interval: int = 2
        mode: str = choice("scalar", "surrogate", "lazy", "removed", "shared")
        a: float = 0.5
        b: float = 0.5
        learn_scales: bool = True
        per_tensor: bool = False
        detach_neighbours: bool = True
        every: int = number(4, least=1)
        form: str = choice("parallel", "linear")
        mixing: str = choice("average", "learned")

    def arrange(self, partition: Partition) -> Partition:
        """Returns the wrapped method's partition, with blocks replaced; names, order and shapes of units stay."""
        _check(self.config)
        partition = super().arrange(partition)
        modules = {gap.block.name: self._replacement(gap) for gap in self._gaps(partition)}
        units = [
            dataclasses.replace(unit, module=modules.get(unit.name, unit.module)) for unit in partition.backbone.units
        ]
        return dataclasses.replace(partition, backbone=dataclasses.replace(partition.backbone, units=tuple(units)))

    def check_pieces(self, partition: Partition) -> None:
        """Raises PartitionError where a cut separates a replaced block from one whose weights it computes with."""
        super().check_pieces(partition)
        blocks = partition.backbone.blocks
        for gap in map(Gap, blocks, blocks[1:], blocks[2:]):
            if isinstance(gap.block.module, Replaced) and not is_whole(partition, gap):
                raise PartitionError(
                    f"one of the cuts into {partition.num_modules} pieces separates {gap.block.name} from "
                    f"{gap.previous.name} or {gap.following.name}",
                    "method=repl makes its weights from theirs, which another process would train",
                    "Use executor.units_per_piece with cuts elsewhere, or executor=sequential.",
                )

    def _gaps(self, partition: Partition) -> list[Gap]:
        """Returns the blocks to replace. Raises PartitionError where there are none."""
        found = self._replaceable(partition, self.config.interval)
        if not found:
            raise self._nothing_to_replace(partition)
        return found

    def _replaceable(self, partition: Partition, interval: int) -> list[Gap]:
        followed = {name for index in range(partition.num_modules) for name in self.follows(partition, index)}
        fitting = [gap for gap in gaps(partition, interval) if self.config.mode == "surrogate" or gap.matches]
        return [gap for gap in fitting if gap.block.name not in followed]

    def _replacement(self, gap: Gap) -> nn.Module:
        config = self.config
        scales = ScaleConfig(config.a, config.b, config.learn_scales, config.per_tensor)
        if config.mode == "removed":
            return nn.Identity()
        if config.mode == "surrogate":
            surrogates = SurrogateConfig(scales, config.form, config.mixing == "learned")
            block, synthesis = surrogate(gap, surrogates)
        else:
            block = copy.deepcopy(gap.block.module)
            names = [name for name, _ in block.named_parameters()]
            synthesis = Sharing(names) if config.mode == "shared" else Blend(names, scales)
        return Replaced(
            block,
            synthesis,
            gap.previous.module,
            gap.following.module,
            detach=config.detach_neighbours and config.mode != "shared",
            pace=EveryNth(config.every) if config.mode == "lazy" else Always(),
        )

    def _nothing_to_replace(self, partition: Partition) -> PartitionError:
        interval = self.config.interval
        fewer = self._largest(partition, interval)
        if fewer:
            mend = f"Use partition=even partition.num_modules={fewer}."
        elif self._replaceable(partition, 2):
            mend = "Use method.interval=2."
        else:
            mend = "Use a deeper backbone."
        return PartitionError(
            f"method=repl replaces none of the {len(blocks_of(partition.backbone))} blocks of "
            f"{partition.backbone.name} in {partition.num_modules} local modules with method.interval={interval}",
            "A block is replaced if it is every k-th of its stage, and if both blocks beside it lie in its local module"
            + ("" if self.config.mode == "surrogate" else " and have weights of the same shapes"),
            mend,
        )

    def _largest(self, partition: Partition, interval: int) -> int | None:
        """Returns the most modules of an even partition that have a block to replace, fewer than there are."""
        for num_modules in range(partition.num_modules - 1, 0, -1):
            if self._replaceable(Even().cut(partition.backbone, num_modules), interval):
                return num_modules
        return None


def _check(config: RepL.Config) -> None:
    if config.interval < 2:
        raise ConfigError(
            f"method.interval={config.interval} replaces blocks that are neighbours of each other",
            "A replaced block is made from the weights of both blocks beside it, so these have to be kept",
            "Use method.interval=2.",
        )
    if config.mode == "lazy" and not config.detach_neighbours:
        raise ConfigError(
            "method.mode=lazy cannot have method.detach_neighbours=false",
            f"The neighbours would be trained by a replaced block in every {config.every}-th step only",
            "Use method.mode=scalar.",
        )
