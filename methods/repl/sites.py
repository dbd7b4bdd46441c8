"""Which blocks of a backbone can be replaced from their neighbours (RepL)."""

import bisect
from dataclasses import dataclass

import torch

from isograd.local.blocks import blocks_of, input_of
from isograd.models.backbone import Backbone, Unit
from isograd.partition.partition import Partition


@dataclass(frozen=True)
class Gap:
    """A block that is to be replaced, between the two that stay.

    Attributes:
        previous: The block before it.
        block: The block.
        following: The block after it.
    """

    previous: Unit
    block: Unit
    following: Unit

    @property
    def matches(self) -> bool:
        """Whether the tensors of all three have the same names and shapes, so that they can be mixed one by one."""
        shapes = _shapes(self.block)
        return bool(shapes) and shapes == _shapes(self.previous) == _shapes(self.following)


def gaps(partition: Partition, interval: int) -> list[Gap]:
    """Returns the blocks that may be replaced, in order; no two of them are neighbours.

    Block i of a stage is one if i mod ``interval`` = ``interval`` - 1, it keeps the shape, it is neither the first nor
    the last block of the network, and both blocks beside it are in its local module.

    Args:
        partition: Tells which blocks share a local module.
        interval: k, at least 2.

    Note:
        A stage is a run of blocks with outputs of one shape, and i counts from 0 within it. That the papers' numbers
        begin anew in each stage is our reading: the specification's arithmetic (3 blocks of ResNet-32 at k = 3 and
        k = 4, 12 of ResNet-110 at k = 4) comes out only so. Vision transformers have one stage.
    """
    backbone, blocks = partition.backbone, blocks_of(partition.backbone)
    found = []
    for at in range(1, len(blocks) - 1):
        gap = Gap(*blocks[at - 1 : at + 2])
        is_due = _number_in_stage(backbone, at) % interval == interval - 1
        if is_due and input_of(backbone, gap.block) == gap.block.output and is_whole(partition, gap):
            found.append(gap)
    return found


def _number_in_stage(backbone: Backbone, at: int) -> int:
    """Returns how many blocks directly before block ``at`` have outputs of its shape."""
    blocks = blocks_of(backbone)
    start = at
    while start > 0 and blocks[start - 1].output == blocks[at].output:
        start -= 1
    return at - start


def is_whole(partition: Partition, gap: Gap) -> bool:
    """Whether no cut separates the block from its neighbours: their weights must not cross one."""
    positions = [partition.backbone.index(unit.name) for unit in (gap.previous, gap.following)]
    first, last = (bisect.bisect_right(partition.ends, position) for position in positions)
    return first == last


def _shapes(unit: Unit) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in unit.module.named_parameters()}
