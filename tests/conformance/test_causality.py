"""No network of a language model sees the tokens that it is to predict."""

import pytest
import torch
from torch import Tensor

from isograd.data.field import Tree
from isograd.engine.blueprint import Blueprint
from isograd.errors import IsogradError
from isograd.local.method import METHODS
from isograd.local.module import LocalModule
from isograd.seeding import generator
from tests.language import blueprint

DEEP = ("model.depth=6", "partition.num_modules=2")  # a replaced block has both neighbours in its module
NETWORKS = {
    "auglocal": ("method=auglocal",),
    "dgl": ("method=dgl",),
    "dgl, low rank": ("method=dgl", "method.auxiliary=lowrank", "task.rank=4"),
    "e2e": ("method=e2e",),
    "glcan": ("method=glcan", "method.attention_window=3"),
    "glcan, gated": ("method=glcan", "method.fusion=gated"),
    "glcan, local": ("method=glcan", "method.branches=local"),
    "glcan, global": ("method=glcan", "method.branches=global"),
    "hpff": ("method=hpff", "method.patches=none"),
    "infopro": ("method=infopro",),
    "man": ("method=man",),
    "man, infopro, extra block": ("method=man", "method.base=infopro", "method.num_extra_blocks=1"),
    "mlaan": ("method=mlaan",),
    "repl": ("method=repl", "method.wraps=dgl", *DEEP),
    "repl, lazy": ("method=repl", "method.wraps=dgl", "method.mode=lazy", *DEEP),
    "repl, parallel surrogate": ("method=repl", "method.wraps=man", "method.mode=surrogate", *DEEP),
    "repl, linear surrogate": ("method=repl", "method.wraps=dgl", "method.mode=surrogate", "method.form=linear", *DEEP),
}
CHANGED = 7  # tokens from here on are others


def test_every_method_is_looked_at() -> None:
    assert {options[0].removeprefix("method=") for options in NETWORKS.values()} == set(METHODS)


@pytest.mark.parametrize("network", list(NETWORKS))
def test_no_output_depends_on_later_tokens(network: str) -> None:
    plan = blueprint(*NETWORKS[network])
    outputs = [every_output(plan, tokens) for tokens in token_pair(plan)]
    assert len(outputs[0]) > 1
    for before, after in zip(*outputs, strict=True):
        assert torch.equal(before[:, :CHANGED], after[:, :CHANGED])
        assert not torch.equal(before[:, CHANGED:], after[:, CHANGED:])


def test_the_local_branch_of_glcan_sees_its_window_alone() -> None:
    plan = blueprint("method=glcan", "method.branches=local", "method.attention_window=3")
    module = plan.method.local_modules(plan.partition, 0, [0])[0].eval()
    values = torch.randn(1, 12, 16, generator=generator(0, "values"))
    others = torch.cat([values[:, :CHANGED].flip(2), values[:, CHANGED:]], dim=1)
    before, after = (predictions(module, {"x": value})[0] for value in (values, others))
    assert torch.equal(before[:, CHANGED + 2 :], after[:, CHANGED + 2 :])
    assert not torch.equal(before[:, CHANGED + 1], after[:, CHANGED + 1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("method=hpff",), "method.patches=shared cannot split a sequence of 12 tokens"),
        (("method=hpff", "method.base=infopro", "method.patches=quadrants"), "quadrants cannot split a sequence"),
        (("method=dgl", "method.auxiliary=token"), "task=language has no auxiliary network 'token'"),
        (("method=infopro", "method.loss=contrast"), "method.loss=contrast has no groups"),
        (("method=infopro", "method.decoder=imagenet"), "method.decoder=imagenet would change nothing"),
        (("method=infopro", "method.head=1c3f"), "task=language has no auxiliary network '1c3f'"),
        (("method=dgl", "model.tied=true"), "share a weight of shape (256, 16)"),
    ],
)
def test_what_would_leak_or_change_nothing_is_refused(options: tuple[str, ...], words: str) -> None:
    with pytest.raises(IsogradError) as caught:
        blueprint(*options).check()
    assert words in caught.value.what and caught.value.why and caught.value.mend


def token_pair(plan: Blueprint) -> tuple[Tensor, Tensor]:
    tokens = plan.task.synthetic(3, generator(0, "tokens")).inputs["tokens"]
    others = tokens.clone()
    others[:, CHANGED:] = (others[:, CHANGED:] + 1) % 256
    return tokens, others


def every_output(plan: Blueprint, tokens: Tensor) -> list[Tensor]:
    """Returns what leaves each local module, and what each of its auxiliary networks predicts."""
    values: Tree = {"tokens": tokens}
    outputs: list[Tensor] = []
    for module in plan.method.local_modules(plan.partition, seed=0):
        values = module.eval()(values)
        outputs += [*values.values(), *predictions(module, values)]
    return outputs


def predictions(module: LocalModule, values: Tree) -> list[Tensor]:
    trees = (objective.predict(values) for objective in (module.objective, module.cascade))
    return [value for tree in trees if tree is not None for value in tree.values()]
