"""Where a backbone is cut: K contiguous slices of its units, and the rules that choose them."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Tensor

from isograd.errors import PartitionError
from isograd.models.backbone import Backbone, Feature, Unit
from isograd.partition import published
from isograd.registry import Registry


@dataclass(frozen=True)
class Partition:
    """A backbone in K pieces.

    Attributes:
        backbone: What is cut.
        ends: For each local module the position after its last unit; increasing, the last is the number of units.
        name_k: K as the paper names it whose table this is, where that differs from the number of pieces.
    """

    backbone: Backbone
    ends: tuple[int, ...]
    name_k: int | None = None

    def __post_init__(self) -> None:
        total = len(self.backbone.units)
        increasing = all(first < second for first, second in itertools.pairwise((0, *self.ends)))
        if not increasing or self.ends[-1] != total:
            raise PartitionError(
                f"cannot cut {self.backbone.name} after units {list(self.ends)}",
                f"Ends must increase, so that each local module has at least one of the {total} units, "
                f"and the last must be {total}",
                "Use partition.ends with distinct unit names in the order that `isograd plan` prints.",
            )

    @property
    def num_modules(self) -> int:
        """K."""
        return len(self.ends)

    @property
    def named_num_modules(self) -> int:
        """K as the paper names it: MAN's "K=16" has 15 pieces."""
        return self.num_modules if self.name_k is None else self.name_k

    def block_after(self, module: int) -> Unit | None:
        """Returns the unit after module ``module``; None where that is no block, or nothing follows."""
        following = self.backbone.units[self.ends[module] :][:1]
        return next((unit for unit in following if unit.role == "block"), None)

    def blocks_after(self, unit: Unit) -> tuple[Unit, ...]:
        """Returns the blocks after ``unit``."""
        later = self.backbone.units[self.backbone.index(unit.name) + 1 :]
        return tuple(unit for unit in later if unit.role == "block")

    def units(self, module: int) -> tuple[Unit, ...]:
        """Returns the units of local module ``module`` (from 0)."""
        start = self.ends[module - 1] if module else 0
        return self.backbone.units[start : self.ends[module]]

    def entering(self, module: int) -> Mapping[str, Feature]:
        """Returns the values that are alive before local module ``module``; the inputs for the first."""
        return self.backbone.live(self.ends[module - 1] if module else 0)

    def live(self, module: int) -> Mapping[str, Feature]:
        """Returns the values that are alive after local module ``module``, the main one first: what crosses the cut."""
        return self.backbone.live(self.ends[module])

    def check_weights(self) -> None:
        """Raises PartitionError where two pieces share a weight, as a tied embedding and unembedding do."""
        owners: dict[Tensor, tuple[int, str]] = {}
        for piece in range(self.num_modules):
            for unit in self.units(piece):
                for weight in unit.module.parameters():
                    owner, name = owners.setdefault(weight, (piece, unit.name))
                    if owner != piece:
                        raise PartitionError(
                            f"units {name} and {unit.name} of {self.backbone.name} share a weight of shape "
                            f"{tuple(weight.shape)}, and a cut lies between them",
                            "Each piece learns by itself, maybe in another process, so one of the two would go stale",
                            "Use method=e2e executor=sequential, which cuts nothing, or untie them (model.tied=false).",
                        )

    def is_last(self, module: int) -> bool:
        """Whether ``module`` ends in the network's own output."""
        return module == self.num_modules - 1


class PartitionRule(Protocol):
    """Chooses the cuts. A rule is a dataclass; its fields are its configuration."""

    name: str

    def cut(self, backbone: Backbone, num_modules: int) -> Partition:
        """Returns the partition. Raises PartitionError where the rule cannot cut this backbone so."""
        ...


RULES: Registry[type] = Registry("partition rule", group="isograd.partition_rules")


def check_num_modules(backbone: Backbone, num_modules: int) -> None:
    """Raises PartitionError where there are more local modules than units, or fewer than one."""
    total = len(backbone.units)
    if not 1 <= num_modules <= total:
        raise PartitionError(
            f"cannot cut {backbone.name} into {num_modules} local modules: it has {total} units",
            "Each module needs at least one",
            f"Use partition.num_modules={total}, or a deeper backbone."
            if num_modules > total
            else "Use partition.num_modules=1.",
        )


@RULES.register("even")
@dataclass
class Even:
    """As many units in each module as in every other; the first ones have one more where it does not divide."""

    name: str = "even"
    num_modules: int | None = None

    def cut(self, backbone: Backbone, num_modules: int) -> Partition:
        """Returns the partition. Raises PartitionError."""
        check_num_modules(backbone, num_modules)
        return Partition(backbone, tuple(part.stop for part in even_split(len(backbone.units), num_modules)))


@RULES.register("explicit")
@dataclass
class Explicit:
    """Cuts after the units named.

    Attributes:
        ends: Last unit of every local module but the last, in order.
    """

    name: str = "explicit"
    num_modules: int | None = None
    ends: list[str] = field(default_factory=list)

    def cut(self, backbone: Backbone, num_modules: int) -> Partition:
        """Returns the partition. Raises PartitionError."""
        if not self.ends and num_modules > 1:
            raise PartitionError(
                f"partition=explicit has no cuts for {num_modules} local modules of {backbone.name}",
                f"Its units are: {', '.join(unit.name for unit in backbone.units)}",
                "Use partition.ends=[UNIT,...] with the last unit of every local module but the last.",
            )
        if num_modules != len(self.ends) + 1:
            raise PartitionError(
                f"cannot cut {backbone.name} into {num_modules} local modules at {len(self.ends)} cuts {self.ends}",
                "K modules have K - 1 cuts between them",
                f"Leave partition.num_modules out, or use {len(self.ends) + 1}.",
            )
        return cut_after(backbone, self.ends)


@RULES.register("balanced")
@dataclass
class Balanced:
    """Cuts that let a pipeline's slowest stage be as fast as can be, by costs measured before the run.

    ``isograd.planning.choose`` fills in what is left open, once, and the run folder keeps it: cuts are part of what a
    run computes, so they do not change when it is resumed elsewhere.

    Attributes:
        num_modules: K; null: as many as stages, since every further cut costs an auxiliary network.
        ends: Last unit of every local module but the last, in order; empty: to be chosen.
        memory_mib: What a stage may hold: weights, gradients, optimizer state, activations, queue; null: no limit.
    """

    name: str = "balanced"
    num_modules: int | None = None
    ends: list[str] = field(default_factory=list)
    memory_mib: float | None = None

    def cut(self, backbone: Backbone, num_modules: int) -> Partition:
        """Returns the partition. Raises PartitionError."""
        if len(self.ends) != num_modules - 1:
            raise PartitionError(
                f"partition=balanced has {len(self.ends)} cuts for {num_modules} local modules of {backbone.name}",
                "Its cuts are chosen by measured costs, before anything is built",
                "Use isograd.planning.choose.resolved(config), as `isograd train` and `isograd plan` do.",
            )
        return cut_after(backbone, self.ends)


@RULES.register("published")
@dataclass
class Published:
    """A table from a paper's released code.

    Attributes:
        table: ``infopro``, ``infopro_star``, ``infopro_star_stl10``, ``man``, ``hpff``, ``mlaan``, ``manpp``,
            ``auglocal`` or ``dgl``. None is the method's own, which a run fills in.
        num_modules: K as the paper names it. It can differ from the number of pieces: MAN's "K=16" has 15.
    """

    name: str = "published"
    num_modules: int | None = None
    table: str | None = None

    def cut(self, backbone: Backbone, num_modules: int) -> Partition:
        """Returns the partition. Raises PartitionError."""
        if num_modules == 1:
            return cut_after(backbone, [])
        found = cut_after(backbone, published.ends(self.table, backbone.name, num_modules))
        return replace(found, name_k=num_modules)


def even_split(count: int, num_parts: int) -> list[range]:
    """Returns consecutive ranges that are as long as each other; the first ones one more where it does not divide."""
    share, rest = divmod(count, num_parts)
    return consecutive([share + (part < rest) for part in range(num_parts)])


def consecutive(sizes: Iterable[int]) -> list[range]:
    """Returns the ranges of these sizes, one after the other from 0."""
    ends = itertools.accumulate(sizes, initial=0)
    return [range(start, end) for start, end in itertools.pairwise(ends)]


def cut_after(backbone: Backbone, unit_names: Sequence[str]) -> Partition:
    """Returns the partition whose modules end after the units named, the last one at the end of the backbone."""
    positions = [backbone.index(name) + 1 for name in unit_names]
    return Partition(backbone, (*positions, len(backbone.units)))
