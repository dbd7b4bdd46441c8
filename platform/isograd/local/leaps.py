"""Which later blocks the auxiliary network of a module leaps to: MLAAN's released lists, and a rule for the rest."""

from collections.abc import Mapping, Sequence

from isograd.errors import ConfigError
from isograd.local.blocks import blocks_of, input_of
from isograd.models.backbone import Unit
from isograd.partition.partition import Partition

# By the unit that a module ends with; "2.0" is layer2.0.
_RESNET32 = {
    **dict.fromkeys(("1.0", "1.1", "1.2", "1.3"), "2.0 3.0 3.2 3.4"),
    "1.4": "2.0 3.0 3.3 3.4",
    **{f"2.{block}": "3.0 3.2 3.3 3.4" for block in range(5)},
    **{"3.0": "3.2 3.3 3.4", "3.1": "3.2 3.3 3.4", "3.2": "3.3 3.4", "3.3": "3.4"},
}
_RESNET110 = {
    **{f"1.{block}": "2.0 3.0 3.2 3.17" for block in range(18)},
    **{f"2.{block}": "3.0 3.2 3.3 3.17" for block in range(17)},
    "2.17": "3.0 3.3 3.4 3.17",
    **{f"3.{block}": "3.8 3.17" for block in range(7)},
    **{f"3.{block}": "3.14 3.17" for block in range(7, 11)},
    **{f"3.{block}": "3.15 3.17" for block in range(11, 13)},
    **{f"3.{block}": "3.16 3.17" for block in range(13, 15)},
    **dict.fromkeys(("3.15", "3.16"), "3.17"),
}
_LISTS = {"resnet32": _RESNET32, "resnet110": _RESNET110}

# Where the released tables of two K disagree about the same end, those above are of K=8 and K=32, these of K=15 and 54.
_EXCEPTIONS = {
    ("resnet32", 15): {"1.2": "2.0 3.0 3.3 3.4", "3.0": "3.1 3.2 3.4"},
    ("resnet110", 54): {"3.15": "3.16 3.17"},
}


def leaps(
    partition: Partition, index: int, *, lists: Mapping[str, Sequence[str]], rule: bool, count: int
) -> list[Unit]:
    """Returns the blocks that module ``index``, not the last, leaps to, in order; none where no block follows it.

    Args:
        lists: The user's, by the unit that a module ends with.
        rule: Whether to pass over the released lists, which cover ResNet-32 and ResNet-110.
        count: How many blocks the rule chooses at most.
    """
    backbone, end = partition.backbone, partition.units(index)[-1].name
    names = lists.get(end) or ([] if rule else _released(partition, end))
    if names:
        return [backbone.units[backbone.index(name)] for name in names]
    end_unit = partition.units(index)[-1]
    return chosen(end_unit, partition.blocks_after(end_unit), count)


def chosen(end: Unit, later: Sequence[Unit], count: int) -> list[Unit]:
    """Chooses ``count`` of the later blocks: the first of each shape, the last, and others evenly spaced before it.

    A block that changes the shape has to be among them, so that each fits what the one before returns; so there are
    more than ``count`` where the shape changes more often.
    """
    if not later:
        return []
    shapes = [end.output.shape, *(unit.output.shape for unit in later)]
    changes = {at for at in range(len(later)) if shapes[at] != shapes[at + 1]}
    last = len(later) - 1
    needed = changes | {last}
    start = max(changes, default=-1) + 1
    room = max(min(count - len(needed), last - start), 0)
    spaced = {start + round((step + 1) * (last + 1 - start) / (room + 1)) - 1 for step in range(room)}
    return [later[at] for at in sorted(needed | spaced)]


def check_leaps(partition: Partition, lists: Mapping[str, Sequence[str]]) -> None:
    """Checks lists of the user's.

    Raises:
        ConfigError: One leaps backwards, past the last unit or over a change of shape, or stands where no local module
            ends.
    """
    backbone = partition.backbone
    ends = [partition.units(index)[-1].name for index in range(partition.num_modules - 1)]
    blocks = [unit.name for unit in blocks_of(backbone)]
    for end, names in lists.items():
        given = backbone.units[backbone.index(end)].output
        for before, name in zip([end, *names], names, strict=False):
            if name not in blocks or backbone.index(name) <= backbone.index(before):
                raise ConfigError(
                    f"method.lists leaps from {before} to {name}, which is no later block of {backbone.name}",
                    f"Its blocks are {blocks[0]} to {blocks[-1]}, and each leap goes to a later one",
                    f"Use names after {end} in the order that `isograd plan` prints, or leave method.lists out.",
                )
            unit = backbone.units[backbone.index(name)]
            if input_of(backbone, unit) != given:
                raise ConfigError(
                    f"method.lists leaps to {name}, which takes {input_of(backbone, unit).shape}, from a feature of "
                    f"shape {given.shape}",
                    "A leap has to go over each block that changes the shape, not past it",
                    "Use a list with the first block of each later stage.",
                )
            given = unit.output
        if end not in ends:
            raise ConfigError(
                f"method.lists has leaps from {end}, where no local module ends",
                f"Local modules with an auxiliary network end in {', '.join(ends) or 'no unit'}",
                f"Leave {end} out of method.lists, or cut there with partition=explicit partition.ends=[...].",
            )


def _released(partition: Partition, end: str) -> list[str]:
    name, key = partition.backbone.name, end.removeprefix("layer")
    found = _EXCEPTIONS.get((name, partition.num_modules), {}).get(key) or _LISTS.get(name, {}).get(key, "")
    return [f"layer{block}" for block in found.split()]
