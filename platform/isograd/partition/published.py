"""Cut tables of released code, by backbone and by K as the paper or its command line names it.

CIFAR rows are residual blocks per module (0: the stem alone; the stem is always in the first module); the last
entry, which takes what is left, is written out. ImageNet rows are the unit that each module but the last ends with.

Note:
    K is the paper's name, not always the number of pieces: MAN's and HPFF's "K=16" has 15, "K=55" has 54; MAN++ cuts
    once more, after the stem. MLAAN's code says 15 and 54. Sources: the repositories InfoPro-Pytorch, MAN, HPFF, MLAAN,
    MAN_PlusPlus, AugLocal, DGL.
"""

import itertools

from isograd.errors import PartitionError

_NUM_BLOCKS_A_STAGE = {"resnet32": 5, "resnet110": 18}

_INFOPRO = {
    "resnet32": {2: [7, 8], 3: [5] * 3, 4: [3, 4, 4, 4], 8: [1, *[2] * 7], 16: [0, *[1] * 15]},
    "resnet110": {
        2: [27, 27],
        3: [18] * 3,
        4: [12, 14, 14, 14],
        8: [5, *[7] * 7],
        16: [2, *[3] * 8, *[4] * 7],
    },
}

_MAN_R110_K32_STAGE = [2, 1, 2, 1, 2, 2, 2, 2, 1, 2, 1]

_MAN = {
    "resnet32": {**_INFOPRO["resnet32"], 16: [1] * 15},
    "resnet110": {
        **_INFOPRO["resnet110"],
        32: [*_MAN_R110_K32_STAGE, *_MAN_R110_K32_STAGE, 2, 2, 1, 2, 1, *[2] * 5],
        55: [1] * 54,
    },
}

_MLAAN = {name: {len(counts): counts for counts in rows.values()} for name, rows in _MAN.items()}

_MANPP = {name: {k: [0, *counts] for k, counts in rows.items()} for name, rows in _MAN.items()}

# One unit a module, the stem the first, and what is left in the last.
_AUGLOCAL = {
    "resnet32": {k: [0, *[1] * (k - 2), 17 - k] for k in (*range(2, 14), 16)},
    "resnet110": {k: [0, *[1] * (k - 2), 56 - k] for k in range(47, 56)},
}

_BLOCK_COUNTS = {
    "infopro": _INFOPRO,
    "man": _MAN,
    "hpff": _MAN,
    "mlaan": _MLAAN,
    "manpp": _MANPP,
    "auglocal": _AUGLOCAL,
}

_HPFF_IMAGENET = {
    4: ["layer3.0", "layer3.9", "layer3.17"],
    8: ["layer2.0", *(f"layer3.{block}" for block in (1, 5, 9, 13, 17, 21))],
}
_VIT_K4 = {4: ["blocks.2", "blocks.5", "blocks.8"]}

_UNIT_NAMES: dict[str, dict[str, dict[int, list[str]]]] = {
    "infopro": {
        "resnet101": {2: ["layer2.0"]},
        "resnet152": {2: ["layer2.5"]},
        "resnext101_32x8d": {2: ["layer2.2"]},
    },
    "infopro_star": {
        "resnet110": {
            2: ["layer1.14"],
            3: ["layer1.9", "layer2.2"],
            4: ["layer1.6", "layer1.14", "layer2.8"],
        }
    },
    "infopro_star_stl10": {
        "resnet110": {
            2: ["layer1.14"],
            3: ["layer1.8", "layer2.1"],
            4: ["layer1.6", "layer1.14", "layer2.8"],
        }
    },
    "man": {
        "resnet101": {2: ["layer2.0"]},
        "resnet152": {2: ["layer2.5"]},
        "resnext101_32x8d": {2: ["layer2.0"]},
    },
    "manpp": {
        "resnet101": {2: ["layer2.0"], 4: ["layer2.2", "layer3.8", "layer3.16"]},
        "resnet152": {2: ["layer2.5"], 4: ["layer2.6", "layer3.13", "layer3.25"]},
        "resnext101_32x8d": {2: ["layer2.0"], 4: ["layer2.2", "layer3.8", "layer3.16"]},
        "vit_ti": _VIT_K4,
        "vit_s": _VIT_K4,
        "vit_b": _VIT_K4,
    },
    "hpff": {name: _HPFF_IMAGENET for name in ("resnet101", "resnet152", "resnext101_32x8d")},
    "dgl": {"resnet152": {2: ["layer3.13"]}},
}

TABLES = sorted({*_BLOCK_COUNTS, *_UNIT_NAMES})


def rows(table: str) -> dict[tuple[str, int], list[str]]:
    """Returns a whole table: (backbone, K as named) -> last units of all local modules but the last."""
    found = {}
    for name, counts_by_k in _BLOCK_COUNTS.get(table, {}).items():
        for k, counts in counts_by_k.items():
            found[name, k] = _block_ends(name, counts)
    for name, names_by_k in _UNIT_NAMES.get(table, {}).items():
        for k, names in names_by_k.items():
            found[name, k] = names
    return found


def ends(table: str | None, backbone_name: str, num_modules: int) -> list[str]:
    """Returns the last unit of every local module but the last.

    Args:
        table: One of :data:`TABLES`. None is refused: which one is for the method to say.
        backbone_name: With or without the library in front (``timm/resnet101``).
        num_modules: K as the paper names it.

    Raises:
        PartitionError: The table does not exist or has no such row.
    """
    if table is None:
        raise PartitionError(
            "partition=published names no table",
            "Only a run's method has a table of its own, and there is none here",
            f"Use table= one of {', '.join(TABLES)}.",
        )
    found = rows(table)
    key = (backbone_name.rpartition("/")[2], num_modules)
    if key in found:
        return found[key]
    known = ", ".join(f"{name} K={k}" for name, k in sorted(found)) or f"no table; tables are {', '.join(TABLES)}"
    raise PartitionError(
        f"no published partition '{table}' of {backbone_name} into {num_modules} local modules",
        f"A published table cannot be extrapolated; known are: {known}",
        f"Use {_another(key)}one of these, or cuts of your own: partition=explicit partition.ends=[UNIT,...].",
    )


def _another(key: tuple[str, int]) -> str:
    tables = [table for table in TABLES if key in rows(table)]
    return f"partition.table={' or '.join(tables)}, " if tables else ""


def _block_ends(name: str, counts: list[int]) -> list[str]:
    num_blocks = _NUM_BLOCKS_A_STAGE[name]
    totals = list(itertools.accumulate(counts))[:-1]
    return [_block_name(total, num_blocks) for total in totals]


def _block_name(num_done: int, num_blocks: int) -> str:
    if num_done == 0:
        return "stem"
    stage, block = divmod(num_done - 1, num_blocks)
    return f"layer{stage + 1}.{block}"
