"""Replacement learning: which blocks are replaced, by what, and that folding and wrapping change nothing else."""

import copy
import itertools
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from isograd.engine.blueprint import Blueprint
from isograd.errors import BackboneError, ConfigError, IsogradError, PartitionError, UnknownNameError
from isograd.local.method import METHODS
from isograd.methods.repl.replaced import Replaced, fold
from isograd.methods.repl.synthesis import ChannelMixing
from tests.runs import trained
from tests.unit.methods.repl.replacements import (
    BOTTLENECKS,
    DEEP_VIT,
    RESNET,
    RESNET32,
    VIT,
    block,
    blueprint,
    composed,
    num_weights,
    replaced,
    value,
    weights,
)

MODES = {
    "scalar": ("method.mode=scalar",),
    "one pair a tensor": ("method.per_tensor=true",),
    "fixed scales": ("method.learn_scales=false",),
    "attached": ("method.detach_neighbours=false",),
    "surrogate": ("method.mode=surrogate",),
    "learned mixing": ("method.mode=surrogate", "method.mixing=learned"),
    "linear": ("method.mode=surrogate", "method.form=linear"),
    "lazy": ("method.mode=lazy", "method.every=2"),
    "removed": ("method.mode=removed",),
    "shared": ("method.mode=shared",),
}

# Parameters of the whole network and with interval 2, 3 and 4; then numbers of replaced blocks.
SPECIFICATION = {32: (466_906, 365_026, 369_696, 369_696), 110: (1_730_714, 1_045_574, 1_244_664, 1_341_874)}
NUM_REPLACED = {32: (0, 4, 3, 3), 110: (0, 22, 15, 12)}


@pytest.mark.parametrize("interval", [1, 2, 3, 4])
@pytest.mark.parametrize("depth", [32, 110])
def test_parameters_are_those_of_the_specification(depth: int, interval: int) -> None:
    method = ("method=e2e",) if interval == 1 else ("method=repl", f"method.interval={interval}")
    plan = Blueprint(composed(*method, f"model=resnet{depth}"))
    assert num_weights(plan) == SPECIFICATION[depth][interval - 1]  # with the two scales of each replaced block
    assert len(replaced(plan)) == NUM_REPLACED[depth][interval - 1]


def test_parameters_of_a_transformer() -> None:
    # 48 and 48 in LayerNorms, 24*72+72 and 24*24+24 in attention, 24*96+96 and 96*24+24 in the MLP
    layers = 96 + 1800 + 600 + 2400 + 2328
    others = (3 * 8 * 8 * 24 + 24) + 24 + 17 * 24 + (48 + 24 * 10 + 10)
    assert num_weights(blueprint(*VIT)) == others + 4 * layers + 2 * 2
    assert num_weights(blueprint(*VIT, "method.per_tensor=true")) == others + 4 * layers + 2 * 2 * 12
    assert num_weights(blueprint(*VIT, *MODES["surrogate"])) == others + 4 * layers + 2 * (48 + 4)
    assert num_weights(blueprint(*VIT, *MODES["linear"])) == others + 4 * layers + 2 * (48 + 2)
    assert num_weights(blueprint(*VIT, *MODES["removed"])) == others + 4 * layers


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (RESNET32, "layer1.1 layer1.3 layer2.3 layer3.3"),
        ((*RESNET32, "method.interval=3"), "layer1.2 layer2.2 layer3.2"),
        ((*RESNET32, "method.mode=removed"), "layer1.1 layer1.3 layer2.3 layer3.3"),
        ((*RESNET32, "method.mode=surrogate"), "layer1.1 layer1.3 layer2.1 layer2.3 layer3.1 layer3.3"),
        (DEEP_VIT, "blocks.1 blocks.3 blocks.5 blocks.7 blocks.9"),
        ((*DEEP_VIT, "method.interval=3"), "blocks.2 blocks.5 blocks.8"),
        ((*DEEP_VIT, "method.interval=4"), "blocks.3 blocks.7"),
        ((*DEEP_VIT, "method.wraps=dgl", "partition.num_modules=2"), "blocks.1 blocks.3 blocks.7 blocks.9"),
    ],
)
def test_replaced_blocks(overrides: tuple[str, ...], expected: str) -> None:
    assert replaced(blueprint(*overrides)) == expected.split()


def test_a_block_that_another_module_averages_is_kept() -> None:
    options = "{mlm: false, leaps: rule, lists: {blocks.3: [blocks.5]}}"
    split = (*VIT, "model.depth=8", "partition.num_modules=2", "partition=explicit", "partition.ends=[blocks.3]")
    assert replaced(blueprint(*split, "method.wraps=dgl")) == ["blocks.1", "blocks.5"]
    assert replaced(blueprint(*split, "method.wraps=mlaan", f"method.options={options}")) == ["blocks.1"]


@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        (("method.interval=1",), ConfigError, "neighbours of each other"),
        (("method.interval=7",), PartitionError, "none of the 9 blocks.*interval=7.*Use method.interval=2"),
        (
            ("method.wraps=dgl", "partition.num_modules=6"),
            PartitionError,
            "in 6 local modules.*partition=even partition.num_modules=3",
        ),
        (("model.depth=8",), PartitionError, "none of the 3 blocks.*deeper backbone"),
        (("method.wraps=repl",), ConfigError, "itself wraps"),
        (("method.wraps=dlg",), UnknownNameError, "Did you mean 'dgl'"),
        (("method.options={decoy: 1}", "method.wraps=man"), ConfigError, "'decoy'.*Did you mean 'decay'"),
        (("method.options={decay: 2}", "method.wraps=man"), ConfigError, "method.options.decay=2 is out of range"),
        (("method.options={decay: high}", "method.wraps=man"), ConfigError, "type"),
        (("method.mode=lazy", "method.detach_neighbours=false"), ConfigError, "every 4-th step"),
    ],
)
def test_errors(overrides: tuple[str, ...], error: type[IsogradError], words: str) -> None:
    with pytest.raises(error, match=f"(?s){words}"):
        blueprint(*RESNET, *overrides).check()


def test_a_surrogate_needs_blocks_that_it_knows() -> None:
    plan = blueprint("model=timm", "model.architecture=convnext_atto", "method.mode=surrogate")
    with pytest.raises(BackboneError, match=r"sizes \[\(7, 7\), .*\] and groups \[40, 1, 1\].*mode=scalar"):
        plan.check()


def test_kept_units_begin_as_without_replacement() -> None:
    plan, whole = blueprint(*RESNET), weights(Blueprint(composed("method=e2e", *RESNET)))
    before = [name for unit in plan.backbone.units for name, _ in unit.module.named_parameters()]
    kept = {name: weight for name, weight in whole.items() if not name.startswith("backbone.layer1.1.")}
    found = weights(plan)
    assert len(kept) > 50 and all(torch.equal(found[name], weight) for name, weight in kept.items())
    assert before == [name for unit in plan.backbone.units for name, _ in unit.module.named_parameters()]


@pytest.mark.parametrize(("model", "mode"), [*itertools.product((RESNET, VIT), MODES), (BOTTLENECKS, "learned mixing")])
def test_folding_changes_no_output(model: tuple[str, ...], mode: str) -> None:
    backbone = blueprint(*model, *MODES[mode]).partition.backbone
    units = nn.Sequential(*(unit.module for unit in backbone.units)).train()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    units(images).square().mean().backward()
    with torch.no_grad():
        for weight in units.parameters():
            weight += 0.01 if weight.grad is None else 0.01 * weight.grad.sign()
    units.eval()
    folded = fold(backbone)
    ordinary = nn.Sequential(*(unit.module for unit in folded.units))
    assert not [part for part in ordinary.modules() if isinstance(part, Replaced)]
    outputs = [each.forward({"image": images})["logits"] for each in (folded, backbone)]
    assert torch.equal(*outputs)
    addresses = [{tensor.data_ptr() for tensor in part.state_dict().values()} for part in (units, ordinary)]
    assert not addresses[0] & addresses[1]


def weight_gradients(found: Replaced, given: Tensor) -> dict[str, Tensor]:
    """dL/dW of the synthesised tensors, each taken as a leaf; L is the output's square."""
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in found.weights().items()}
    functional_call(found.block, leaves, (given,)).square().sum().backward()
    return {name: cast(Tensor, weight.grad) for name, weight in leaves.items()}


@pytest.mark.parametrize("model", [RESNET, VIT], ids=["resnet", "vit"])
@pytest.mark.parametrize("per_tensor", ["true", "false"])
def test_gradients_of_the_scales(model: tuple[str, ...], per_tensor: str) -> None:
    found = block(*model, f"method.per_tensor={per_tensor}")
    given = value(*((3, 4, 8, 8) if model is RESNET else (3, 17, 24)))
    found(given).square().sum().backward()
    gradients = weight_gradients(found, given)
    scales = cast(Any, found.synthesis).scales
    for scale, neighbour in zip((scales.a, scales.b), found.neighbours, strict=True):
        source = dict(neighbour.named_parameters())
        expected = torch.stack([(gradient * source[name]).sum() for name, gradient in gradients.items()])
        expected = expected if per_tensor == "true" else expected.sum()
        torch.testing.assert_close(scale.grad, expected, rtol=1e-10, atol=1e-10)
        assert all(weight.grad is None for weight in neighbour.parameters())


def test_attached_neighbours_learn_from_the_replaced_block() -> None:
    found = block(*RESNET, "method.detach_neighbours=false", "method.a=0.3")
    given = value(3, 4, 8, 8)
    found(given).square().sum().backward()
    gradients = weight_gradients(found, given)
    a = cast(Any, found.synthesis).scales.a.item()
    for name, weight in found.neighbours[0].named_parameters():
        torch.testing.assert_close(weight.grad, a * gradients[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("detach", ["true", "false"])
def test_shared_weights_are_the_previous_blocks(detach: str) -> None:
    found = block(*RESNET, "method.mode=shared", f"method.detach_neighbours={detach}")
    previous, following = found.neighbours
    assert not list(found.parameters())
    assert all(found.weights()[name] is weight for name, weight in previous.named_parameters())
    found(value(3, 4, 8, 8)).square().sum().backward()
    assert all(weight.grad is not None for weight in previous.parameters())
    assert all(weight.grad is None for weight in following.parameters())


def test_running_statistics_are_its_own() -> None:
    found = block(*RESNET).train()
    statistics = {name: tensor.clone() for part in found.neighbours for name, tensor in part.named_buffers()}
    found(value(3, 4, 8, 8))
    own = {name: tensor for name, tensor in found.state_dict().items() if not name.startswith("synthesis.")}
    assert own.keys() == {f"block.{name}" for name in statistics}
    assert all(own[f"block.bn{n}.num_batches_tracked"] == 1 for n in (1, 2))
    for part in found.neighbours:
        assert all(torch.equal(tensor, statistics[name]) for name, tensor in part.named_buffers())


def test_a_copied_local_module_refers_to_its_own_blocks() -> None:
    plan = blueprint(*RESNET)
    module = plan.method.local_modules(plan.partition, seed=0)[0]
    copied = copy.deepcopy(module)
    for found, trunk in ((module.trunk[2], module.trunk), (copied.trunk[2], copied.trunk)):
        assert isinstance(found, Replaced) and found.neighbours == (trunk[1], trunk[3])
        assert all(getattr(scale, "no_weight_decay", False) for scale in found.parameters())
    assert copied.trunk[1] is not module.trunk[1]
    assert set(copied.named_state()) == set(module.named_state())
    assert [name for name in module.named_weights() if "layer1.1." in name] == [
        "backbone.layer1.1.synthesis.scales.a",
        "backbone.layer1.1.synthesis.scales.b",
    ]


def test_surrogate_of_a_basic_block() -> None:
    found = block(*RESNET, "method.mode=surrogate").train()
    scales = cast(Any, found.synthesis).parts[0].scales
    weight: Any = 0
    for scale, neighbour in zip((scales.a, scales.b), found.neighbours, strict=True):
        kernels = dict(neighbour.named_parameters())
        weight = weight + scale[0] * kernels["conv1.weight"] + scale[1] * kernels["conv2.weight"]
    given, norm = value(3, 4, 8, 8), cast(Any, found.block).norm
    branch = F.batch_norm(F.conv2d(given, weight, padding=1), None, None, norm.weight, norm.bias, training=True)
    torch.testing.assert_close(found(given), F.relu(given + branch))


def test_surrogate_beside_a_change_of_width() -> None:
    plan = blueprint(*RESNET, "method.mode=surrogate")
    unit = plan.partition.backbone.units[plan.partition.backbone.index("layer2.1")]
    found = cast(Replaced, unit.module)
    (kernel,) = found.weights().values()
    assert kernel.shape == (8, 8, 3, 3)
    sources = [dict(part.named_parameters()) for part in found.neighbours]
    narrow, *others = [source[f"conv{n}.weight"] for source in sources for n in (1, 2)]
    assert narrow.shape == (8, 4, 3, 3)
    torch.testing.assert_close(kernel, 0.5 * (narrow.repeat_interleave(2, dim=1) + sum(others)))


def test_channels_are_averaged_in_groups_or_repeated() -> None:
    kernel = torch.randn(6, 4, 3, 3)
    fewer, more = (ChannelMixing(axis, kernel.shape[axis], wanted, learned=False) for axis, wanted in ((0, 3), (1, 8)))
    torch.testing.assert_close(fewer(kernel), kernel.view(3, 2, 4, 3, 3).mean(1))
    torch.testing.assert_close(more(kernel), kernel.repeat_interleave(2, dim=1))
    assert not fewer.state_dict() and list(ChannelMixing(0, 6, 3, learned=True).state_dict()) == ["matrix"]


def test_surrogates_of_a_transformer_block() -> None:
    parallel = block(*VIT, "method.mode=surrogate")
    given, parts, mixed = value(3, 17, 24), cast(Any, parallel.block), parallel.weights()
    normed = parts.norm(given)
    attention = {name.removeprefix("attn."): w for name, w in mixed.items() if name.startswith("attn.")}
    mlp = {name.removeprefix("mlp."): w for name, w in mixed.items() if name.startswith("mlp.")}
    expected = given + functional_call(parts.attn, attention, normed) + functional_call(parts.mlp, mlp, normed)
    torch.testing.assert_close(parallel(given), expected)

    linear = block(*VIT, "method.mode=surrogate", "method.form=linear")
    scales, normed = cast(Any, linear.synthesis).scales, cast(Any, linear.block).norm(given)
    expected = given
    for scale, neighbour in zip((scales.a, scales.b), linear.neighbours, strict=True):
        attn = cast(Any, neighbour).attn
        expected = expected + scale * (normed @ attn.qkv.weight[48:].T @ attn.proj.weight.T)
    torch.testing.assert_close(linear(given), expected)


@pytest.mark.parametrize("mode", ["scalar", "lazy", "learned mixing"])
@pytest.mark.parametrize("wraps", ["e2e", "dgl"])
def test_it_trains(wraps: str, mode: str) -> None:
    num_modules = 1 if wraps == "e2e" else 2
    options = (f"method.wraps={wraps}", f"partition.num_modules={num_modules}", *RESNET, *MODES[mode])
    before = weights(blueprint(*options))
    after = trained("method=repl", *options, "executor=sequential", max_steps=3)
    assert any(".scales." in name for name in before)
    assert all(not torch.equal(after[name], before[name]) for name in before)
    assert all(torch.isfinite(tensor).all() for tensor in after.values())


@pytest.mark.parametrize("wraps", [method for method in METHODS if method not in ("repl", "e2e")])
def test_it_wraps_any_method(wraps: str) -> None:
    options = ("method=repl", f"method.wraps={wraps}", "partition.num_modules=2", *RESNET)
    Blueprint(composed(*options)).check()
    after = trained(*options, "executor=sequential", max_steps=1)
    assert not torch.equal(after["backbone.layer1.1.synthesis.scales.a"], torch.tensor(0.5))


def test_options_reach_the_wrapped_method() -> None:
    plan = blueprint(*RESNET, "method.wraps=dgl", "method.options={auxiliary: mlp}", "partition.num_modules=2")
    other = Blueprint(composed("method=dgl", "method.auxiliary=mlp", *RESNET, "partition.num_modules=2"))
    names = [set(found.method.local_modules(found.partition, 0)[0].objective.state_dict()) for found in (plan, other)]
    assert names[0] == names[1]
    assert plan.method.default_num_modules == other.method.default_num_modules == 4
    assert (plan.method.max_num_modules, blueprint(*RESNET).method.max_num_modules) == (None, 1)
