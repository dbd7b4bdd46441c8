"""The small GPT is a plain transformer, cut into units."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from isograd.data.field import Field
from isograd.errors import BackboneError
from isograd.models.backbone import MODELS, Backbone
from isograd.models.gpt import CausalAttention, GPTConfig
from isograd.partition.partition import Partition
from isograd.seeding import generator, seeded
from tests.fields import Sides, classification

T, V = 10, 20
TIMMS = {  # how timm calls the parts of torch's layer
    "self_attn.in_proj_": "attn.qkv.",
    "self_attn.out_proj.": "attn.proj.",
    "linear1.": "mlp.fc1.",
    "linear2.": "mlp.fc2.",
    "norm1.": "norm1.",
    "norm2.": "norm2.",
}
SMALL = GPTConfig(width=16, depth=2, num_heads=2)


def language(num_outputs: int = V) -> Sides:
    logits = Field((T, num_outputs), torch.float32, "vector")
    return {"inputs": {"tokens": Field((T,), torch.int64, "tokens", V)}, "outputs": {"logits": logits}}


def build(seed: int = 0, **options: Any) -> Backbone:
    return MODELS.get("gpt_small").build(replace(SMALL, **options), **language(), seed=seed)


def test_units_are_those_of_the_preset() -> None:
    backbone = MODELS.get("gpt_small").build(MODELS.get("gpt_small").config, **language(), seed=0)
    assert [unit.name for unit in backbone.units] == ["embed", *(f"block.{at}" for at in range(4)), "head"]
    assert [unit.role for unit in backbone.units] == ["stem", *["block"] * 4, "head"]
    assert all(unit.output.is_causal for unit in backbone.units)
    assert list(backbone.live(0)) == ["tokens"] and list(backbone.live(6)) == ["logits"]


def test_it_equals_a_plain_transformer() -> None:
    backbone = build()
    state = {
        f"{unit.name}.{name}": value for unit in backbone.units for name, value in unit.module.state_dict().items()
    }
    tokens = torch.randint(0, V, (3, T), generator=generator(0, "tokens"))
    value = state["embed.token.weight"][tokens] + state["embed.position.weight"]
    for at in range(2):
        layer = nn.TransformerEncoderLayer(16, 2, 64, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True).eval()
        layer.load_state_dict(
            {
                f"{torchs}{kind}": state[f"block.{at}.{timms}{kind}"]
                for torchs, timms in TIMMS.items()
                for kind in ("weight", "bias")
            }
        )
        value = layer(value, src_mask=torch.ones(T, T).triu(1).bool())
    normed = F.layer_norm(value, (16,), state["head.norm.weight"], state["head.norm.bias"])
    logits = backbone.forward({"tokens": tokens})["logits"]
    torch.testing.assert_close(logits, normed @ state["head.unembed.weight"].T)


def test_weights_of_a_unit_depend_on_seed_and_name_alone() -> None:
    shallow, deep, other = build(), build(tied=True), build(seed=1)
    for unit in (1, 2):
        weights = [backbone.units[unit].module.state_dict() for backbone in (shallow, deep, other)]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
        assert not torch.equal(weights[0]["attn.qkv.weight"], weights[2]["attn.qkv.weight"])


def test_a_narrow_attention_sees_its_window() -> None:
    with seeded(0, "attention"):
        attention, values = CausalAttention(8, 2, 0.0, 0.0), torch.randn(1, T, 8)
    attention.narrow(3)
    others = values.clone()
    others[:, 4] += 1
    changed = (attention(values) != attention(others)).any(-1)[0]
    assert changed.tolist() == [at in (4, 5, 6) for at in range(T)]


def test_tied_weights_are_one_table_that_no_cut_may_divide() -> None:
    backbone = build(tied=True)
    weights = [dict(backbone.units[at].module.named_parameters()) for at in (0, -1)]
    assert weights[0]["token.weight"] is weights[1]["unembed.weight"]
    Partition(backbone, (4,)).check_weights()
    with pytest.raises(BackboneError, match="2 attention heads equal parts of 15"):
        build(width=15)
    with pytest.raises(BackboneError, match="cannot share a table between 20 tokens and 21 logits"):
        MODELS.get("gpt_small").build(replace(SMALL, tied=True), **language(21), seed=0)


def test_images_are_refused() -> None:
    with pytest.raises(BackboneError, match="is a language model, and data and task have image"):
        MODELS.get("gpt_small").build(SMALL, **classification(), seed=0)


def test_a_sequence_is_never_pooled_or_laid_out_as_a_map() -> None:
    from isograd.models.layers import AsMap, TokenPool

    feature = build().units[1].output
    for read in (AsMap, TokenPool, lambda feature: feature.size):
        with pytest.raises(BackboneError, match="cannot be pooled or laid out as a map"):
            read(feature)
