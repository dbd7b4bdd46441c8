"""Cuts: the rules, the published tables, and what is refused."""

import pytest

from isograd.engine.blueprint import Blueprint
from isograd.errors import BackboneError, PartitionError
from isograd.models.backbone import MODELS, Backbone
from isograd.partition import published
from isograd.partition.partition import Even, Explicit, Published, even_split
from tests.fields import classification
from tests.runs import config


def backbone(name: str = "resnet32") -> Backbone:
    entry = MODELS.get(name)
    return entry.build(entry.config, **classification(), seed=0)


def residual_blocks(table: str, k: int, name: str = "resnet32") -> list[int]:
    partition = Published(table=table).cut(backbone(name), k)
    return [
        sum(unit.name.startswith("layer") for unit in partition.units(module))
        for module in range(partition.num_modules)
    ]


def test_parameters_are_the_published_numbers() -> None:
    for name, expected in (("resnet32", 466_906), ("resnet110", 1_730_714)):
        assert sum(w.numel() for unit in backbone(name).units for w in unit.module.parameters()) == expected


@pytest.mark.parametrize(
    ("table", "name", "k", "counts"),
    [
        ("infopro", "resnet32", 2, [7, 8]),
        ("infopro", "resnet32", 4, [3, 4, 4, 4]),
        ("infopro", "resnet32", 16, [0, *[1] * 15]),
        ("man", "resnet32", 16, [1] * 15),
        ("hpff", "resnet32", 8, [1, *[2] * 7]),
        ("mlaan", "resnet32", 15, [1] * 15),
        ("mlaan", "resnet110", 54, [1] * 54),
        ("manpp", "resnet32", 8, [0, 1, *[2] * 7]),
        ("infopro", "resnet110", 16, [2, *[3] * 8, *[4] * 7]),
        ("man", "resnet110", 55, [1] * 54),
        ("infopro_star", "resnet110", 3, [10, 11, 33]),
    ],
)
def test_published_tables_count_as_the_papers_do(table: str, name: str, k: int, counts: list[int]) -> None:
    assert residual_blocks(table, k, name) == counts


def test_published_ends_are_those_written_in_the_papers() -> None:
    expected = ["layer1.0", "layer1.2", "layer1.4", "layer2.1", "layer2.3", "layer3.0", "layer3.2"]
    assert published.ends("infopro", "resnet32", 8) == expected
    stage = (1, 2, 4, 5, 7, 9, 11, 13, 14, 16, 17)
    ends = [f"layer{part}.{block}" for part in (1, 2) for block in stage]
    ends += [f"layer3.{block}" for block in (1, 3, 4, 6, 7, 9, 11, 13, 15)]
    assert published.ends("man", "resnet110", 32) == ends


@pytest.mark.parametrize("k", range(1, 18))
def test_even_cuts_differ_by_one_unit_at_most(k: int) -> None:
    partition = Even().cut(backbone(), k)
    sizes = [len(partition.units(module)) for module in range(k)]
    assert sum(sizes) == 17 and max(sizes) - min(sizes) <= 1


def test_more_modules_than_units_is_refused_with_the_numbers() -> None:
    with pytest.raises(PartitionError, match=r"cannot cut resnet32 into 20 local modules: it has 17 units") as caught:
        Even().cut(backbone(), 20)
    assert "partition.num_modules=17" in str(caught.value)


@pytest.mark.parametrize("ends", [["layer2.0", "layer1.0"], ["layer1.0", "layer1.0"], ["head"]])
def test_cuts_that_do_not_increase_are_refused(ends: list[str]) -> None:
    with pytest.raises(PartitionError, match="must increase"):
        Explicit(ends=ends).cut(backbone(), len(ends) + 1)


def test_a_cut_after_an_unknown_unit_lists_the_units() -> None:
    with pytest.raises(BackboneError, match=r"no unit 'layer4.0'.*layer3.4, head"):
        Explicit(ends=["layer4.0"]).cut(backbone(), 2)


def test_a_table_without_the_row_lists_its_rows() -> None:
    with pytest.raises(PartitionError, match=r"known are: .*resnet32 K=16"):
        Published(table="infopro").cut(backbone(), 5)


def test_a_table_that_has_the_row_is_named() -> None:
    with pytest.raises(PartitionError, match=r"Use partition.table=mlaan, one of these"):
        Published(table="infopro").cut(backbone(), 15)


@pytest.mark.parametrize(
    ("method", "k", "num_modules"), [("infopro", 16, 16), ("man", 16, 15), ("mlaan", 15, 15), ("auglocal", 16, 16)]
)
def test_a_published_partition_without_a_table_takes_the_methods(method: str, k: int, num_modules: int) -> None:
    found = config("model=resnet32", f"method={method}", "partition=published", f"partition.num_modules={k}")
    partition = Blueprint(found).partition
    assert (partition.num_modules, partition.named_num_modules) == (num_modules, k)


def test_a_wrapping_method_has_the_table_of_the_method_that_it_wraps() -> None:
    plan = Blueprint(config("method=repl", "method.wraps=mlaan", "partition=published"))
    assert plan.rule == Published(table="mlaan")


def test_a_published_partition_without_table_or_method_is_refused() -> None:
    with pytest.raises(PartitionError, match="names no table"):
        Published().cut(backbone(), 4)


def test_modules_are_spread_over_stages_without_gaps() -> None:
    assert [list(stage) for stage in even_split(7, 3)] == [[0, 1, 2], [3, 4], [5, 6]]


def test_what_crosses_a_cut_is_what_is_alive_there() -> None:
    partition = Explicit(ends=["layer1.4", "layer3.4"]).cut(backbone(), 3)
    assert list(partition.entering(0)) == ["image"] and list(partition.live(2)) == ["logits"]
    assert partition.entering(1) == partition.live(0) == {"x": partition.units(0)[-1].output}
    assert partition.block_after(0) == partition.units(1)[0] and partition.block_after(1) is None
    assert partition.blocks_after(partition.units(1)[-2]) == partition.units(1)[-1:]
