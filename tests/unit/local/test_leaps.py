"""Which blocks MLAAN and AugLocal build their auxiliary networks from."""

import pytest

from isograd.engine.blueprint import Blueprint
from isograd.errors import BackboneError, ConfigError, IsogradError
from isograd.local.leaps import leaps
from tests.runs import config


def names(plan: Blueprint, index: int, **options: object) -> list[str]:
    options = {"lists": {}, "rule": False, "count": 4, **options}
    return [unit.name.removeprefix("layer") for unit in leaps(plan.partition, index, **options)]  # pyright: ignore[reportArgumentType]


def resnet(depth: int, named_k: int) -> Blueprint:
    return Blueprint(
        config(*(f"model=resnet{depth}", "partition=published", f"partition.num_modules={named_k}", "method=mlaan"))
    )


def test_released_lists_of_resnet32() -> None:
    plan = resnet(32, 8)
    assert [" ".join(names(plan, index)) for index in range(8)] == [
        *["2.0 3.0 3.2 3.4"] * 2,
        "2.0 3.0 3.3 3.4",
        *["3.0 3.2 3.3 3.4"] * 2,
        "3.2 3.3 3.4",
        "3.3 3.4",
        "",
    ]
    plan = resnet(32, 15)
    early, late = "2.0 3.0 3.2 3.4", "2.0 3.0 3.3 3.4"
    assert [" ".join(names(plan, index)) for index in range(14)] == [
        *(early, early, late, early, late),
        *["3.0 3.2 3.3 3.4"] * 5,
        *("3.1 3.2 3.4", "3.2 3.3 3.4", "3.3 3.4", "3.4"),
    ]


def test_released_lists_of_resnet110() -> None:
    plan = resnet(110, 32)
    found = [" ".join(names(plan, index)) for index in range(31)]
    assert found[:11] == ["2.0 3.0 3.2 3.17"] * 11
    assert found[11:21] == ["3.0 3.2 3.3 3.17"] * 10
    assert found[21:] == [
        *("3.0 3.3 3.4 3.17", *["3.8 3.17"] * 4, *["3.14 3.17"] * 2),
        *("3.15 3.17", "3.16 3.17", "3.17"),
    ]
    plan = resnet(110, 54)
    found = [" ".join(names(plan, index)) for index in range(53)]
    assert found[35] == "3.0 3.3 3.4 3.17"
    assert found[36:] == [
        *(*["3.8 3.17"] * 7, *["3.14 3.17"] * 4, *["3.15 3.17"] * 2, *["3.16 3.17"] * 3, "3.17"),
    ]


def test_the_rule_chooses_changes_of_shape_the_last_block_and_others_between() -> None:
    plan = Blueprint(config("model=resnet56", "partition.num_modules=29", "method=mlaan"))
    assert names(plan, 0) == ["2.0", "3.0", "3.4", "3.8"]
    assert names(plan, 0, count=2) == ["2.0", "3.0", "3.8"]  # fewer would not fit together
    assert names(plan, 26) == ["3.8"]
    assert names(plan, 27) == []
    vit = Blueprint(config("model=vit_ti", "model.width=24", "partition.num_modules=4", "method=mlaan"))
    assert [name.removeprefix("blocks.") for name in names(vit, 0)] == ["4", "6", "9", "11"]


def test_lists_of_the_users_go_first() -> None:
    plan = resnet(32, 8)
    assert names(plan, 0, lists={"layer1.0": ["layer1.1", "layer2.0"]}) == ["1.1", "2.0"]


BAD = {
    "a window of five in four modules": (("method=hpff", "method.window=5"), "method.window=5"),
    "a window of one": (("method=mlaan", "method.window=1"), "method.window=1"),
    "a decay of one": (("method=man", "method.decay=1"), "Use method.decay=0.995, for example"),
    "a negative decay": (("method=mlaan", "method.decay=-0.1"), "method.decay=-0.1"),
    "a negative lag": (("method=man", "method.lag=-1"), "method.lag=-1"),
    "an unknown fusion": (("method=man", "method.fusion=product"), "method.fusion='product'"),
    "scaled fusion of one block": (("method=man", "method.fusion=scaled", "method.blocks=ema"), "weighs 2 blocks"),
    "quadrants without decoders": (("method=hpff", "method.patches=quadrants"), "nothing to split"),
    "more patches than pixels": (("method=hpff", "method.num_patches=40"), "num_patches=40"),
    "one level weight": (("method=hpff", "method.level_weights=[1]"), "has 1 values"),
    "a leap past the last unit": (
        ("method=mlaan", "method.lists={layer1.1:[layer2.0,layer3.0,layer3.7]}"),
        "layer3.7, which is no later block",
    ),
    "a leap backwards": (("method=mlaan", "method.lists={layer2.0:[layer1.0]}"), "leaps from layer2.0 to layer1.0"),
    "a leap over a change of shape": (
        ("method=mlaan", "method.lists={layer1.0:[layer3.1]}"),
        "from a feature of shape",
    ),
    "a list where no module ends": (
        ("method=mlaan", "method.lists={layer1.0:[layer2.0,layer3.0]}"),
        "leaps from layer1.0, where no local module ends",
    ),
    "a list of an unknown unit": (("method=mlaan", "method.lists={layer9.0:[layer3.1]}"), "no unit 'layer9.0'"),
    "patches that do not divide the image": (
        ("method=hpff", "method.base=infopro", "method.num_patches=3"),
        "num_patches=3 does not divide images of 32x32 pixels",
    ),
    "a weight that is no number": (("method=infopro", "method.lambda1=[nan,1]"), "method.lambda1 holds nan"),
    "neighbours replaced": (("method=repl", "method.interval=1"), "neighbours of each other"),
    "no module left before the last": (
        ("method=auglocal", "method.merges_last=true", "method.depth=9"),
        "leaves one local module of 4",
    ),
    "an option of the other base": (
        ("method=man", "method.base=infopro", "method.auxiliary=manpp"),
        "method.auxiliary=manpp would change nothing",
    ),
    "coefficients without a decoder": (
        ("method=hpff", "method.lambda1=[4,0]"),
        "Nothing reads method.lambda1 with method.base=dgl",
    ),
    "a row of the table and weights beside it": (
        ("method=infopro", "method.coefficients=cifar10", "method.lambda2=[1,1]"),
        "Nothing reads method.lambda2 with method.coefficients=cifar10",
    ),
    "an unknown base": (("method=man", "method.base=e2e"), "method.base='e2e'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_are_refused_before_anything_runs(case: str) -> None:
    overrides, said = BAD[case]
    with pytest.raises(IsogradError) as caught:
        found = config("model=resnet20", "model.width=4", *_cut(overrides), *overrides)
        Blueprint(found).check()
    assert said in str(caught.value)
    assert caught.value.mend.startswith(("Use ", "Leave "))
    assert isinstance(caught.value, ConfigError | BackboneError)


def _cut(overrides: tuple[str, ...]) -> tuple[str, ...]:
    return () if "method=repl" in overrides else ("partition.num_modules=4",)
