"""GPT, the decoder-only transformer of language models (Radford et al. 2019), in small: pre-LN, learnt positions.

The blocks are timm's; what is ours is the attention, which is causal whoever calls it, and the cutting into units, each
drawn from its own named stream.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd.data.field import Field, Fields
from isograd.errors import BackboneError
from isograd.models.assembly import check_heads, draw_units
from isograd.models.backbone import MAIN, MODELS, Backbone, Feature, ModelEntry, Unit
from isograd.options import number

_STD = 0.02  # of initial weights


@dataclass
class GPTConfig:
    """Attributes:
    name: Of the preset.
    width: D, a multiple of ``num_heads``.
    depth: L, transformer blocks.
    num_heads: Attention heads.
    mlp_ratio: Hidden width of a block's MLP over ``width``.
    drop_rate: Dropout of the embeddings, and of what MLPs and attentions return.
    attention_drop_rate: Dropout of the attention's weights.
    tied: Whether the output layer has the embedding's weights; for networks that are not cut.
    """

    name: str = "gpt_small"
    width: int = number(128, 1)
    depth: int = number(4, 1)
    num_heads: int = number(4, 1)
    mlp_ratio: float = number(4.0, 0, open=True)
    drop_rate: float = number(0.0, 0, 1)
    attention_drop_rate: float = number(0.0, 0, 1)
    tied: bool = False


class TokenEmbedding(nn.Module):
    """The embedding of each token plus that of its position. Shapes: (B, N) int64, N at most T -> (B, N, D)."""

    def __init__(self, num_values: int, num_positions: int, width: int, drop_rate: float) -> None:
        super().__init__()
        self.token = nn.Embedding(num_values, width)
        self.position = nn.Embedding(num_positions, width)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the embeddings."""
        return self.drop(self.token(tokens) + self.position.weight[: tokens.shape[1]])


class CausalAttention(nn.Module):
    """Multi-head attention of each position to itself and to those before it. Shapes: (B, N, D) -> (B, N, D).

    That it is causal is its own: whoever copies a block, or calls its attention alone, sees no later position. Weights
    have the names of timm's attention.
    """

    def __init__(self, width: int, num_heads: int, drop_rate: float, attention_drop_rate: float) -> None:
        super().__init__()
        self.num_heads, self.attention_drop_rate = num_heads, attention_drop_rate
        self.num_positions: int | None = None
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.proj_drop = nn.Dropout(drop_rate)

    def narrow(self, num_positions: int) -> None:
        """Lets each position see itself and the ``num_positions`` - 1 before it, no more."""
        self.num_positions = num_positions

    def forward(self, tokens: Tensor, attn_mask: Tensor | None = None, is_causal: bool = True) -> Tensor:
        """Returns what is attended to; the two options of timm's attention change nothing."""
        query, key, value = (
            self.qkv(tokens).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        )  # (B, h, N, d)
        attended = F.scaled_dot_product_attention(
            *(query, key, value),
            attn_mask=None if self.num_positions is None else self._band(tokens),
            dropout_p=self.attention_drop_rate if self.training else 0.0,
            is_causal=self.num_positions is None,
        )
        return self.proj_drop(self.proj(attended.transpose(1, 2).flatten(2)))

    def _band(self, tokens: Tensor) -> Tensor:
        """Returns which positions see which, (N, N) bool."""
        num_tokens = tokens.shape[1]
        every = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=tokens.device)
        return every.tril().triu(1 - (self.num_positions or num_tokens))


class Unembedding(nn.Module):
    """LayerNorm and the logits of the next token. Shapes: (B, N, D) -> (B, N, V)."""

    def __init__(self, width: int, num_values: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.unembed = nn.Linear(width, num_values, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the logits."""
        return self.unembed(self.norm(tokens))


def build(config: GPTConfig, *, inputs: Fields, outputs: Fields, seed: int) -> Backbone:
    """Builds units ``embed``, ``block.0`` ..., ``head``.

    Raises:
        BackboneError: The heads do not divide the width, the tied tables differ, or this is no language modelling.
    """
    tokens, logits, num_positions, num_inputs, num_outputs = _sizes(config, inputs, outputs)
    _check(config, num_inputs, num_outputs)
    makers: dict[str, Callable[[], nn.Module]] = {
        "embed": lambda: TokenEmbedding(num_inputs, num_positions, config.width, config.drop_rate),
        **{f"block.{at}": lambda: _block(config) for at in range(config.depth)},
        "head": lambda: Unembedding(config.width, num_outputs),
    }
    modules = draw_units(makers, seed, partial(_draw, depth=config.depth))
    if config.tied:
        _tie(modules)
    inner, outer = (Feature((num_positions, width), "NLC", is_causal=True) for width in (config.width, num_outputs))
    units = [Unit(name, module, {MAIN: inner}) for name, module in modules.items()]
    units[0] = replace(units[0], reads=(tokens,), role="stem")
    units[-1] = replace(units[-1], outputs={logits: outer}, role="head")
    return Backbone(config.name, tuple(units), {tokens: Feature((num_positions,), "NC")})


def _block(config: GPTConfig) -> nn.Module:
    from timm.models.vision_transformer import Block  # takes seconds

    block = Block(config.width, config.num_heads, mlp_ratio=config.mlp_ratio, proj_drop=config.drop_rate)
    block.attn = CausalAttention(config.width, config.num_heads, config.drop_rate, config.attention_drop_rate)
    return block


def _draw(module: nn.Module, depth: int) -> None:
    """Draws as GPT-2: what a block adds to the residual stream is smaller the more blocks there are."""
    for path, part in module.named_modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            is_added = path in ("attn.proj", "mlp.fc2")
            nn.init.normal_(part.weight, std=_STD / math.sqrt(2 * depth) if is_added else _STD)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)


def _tie(modules: Mapping[str, nn.Module]) -> None:
    embed, head = modules["embed"], modules["head"]
    assert isinstance(embed, TokenEmbedding) and isinstance(head, Unembedding)
    head.unembed.weight = embed.token.weight


def _sizes(config: GPTConfig, inputs: Fields, outputs: Fields) -> tuple[str, str, int, int, int]:
    """Returns the names of tokens and logits, T, and how many values the one and the other have."""
    given = [(name, *field.fixed_shape, field.num_values) for name, field in inputs.items() if _is_sequence(field)]
    wanted = [(name, *field.fixed_shape) for name, field in outputs.items() if field.is_fixed and len(field.shape) == 2]
    is_fit = len(given) == len(inputs) == len(wanted) == len(outputs) == 1 and given[0][1] == wanted[0][1]
    if not is_fit:
        described = [
            ", ".join(f"{name} {field.shape} ({field.kind})" for name, field in fields.items()) or "nothing"
            for fields in (inputs, outputs)
        ]
        raise BackboneError(
            f"{config.name} is a language model, and data and task have {described[0]} for {described[1]}",
            "It takes tokens (T,), and returns logits (T, V) of the next token at every position",
            "Use task=language and data=text or another data set of tokens, or another model.",
        )
    (tokens, num_positions, num_inputs), (logits, _, num_outputs) = given[0], wanted[0]
    return tokens, logits, num_positions, num_inputs or 0, num_outputs


def _is_sequence(field: Field) -> bool:
    return field.kind == "tokens" and field.is_fixed and len(field.shape) == 1


def _check(config: GPTConfig, num_inputs: int, num_outputs: int) -> None:
    check_heads(config.name, config.width, config.num_heads)
    if config.tied and num_inputs != num_outputs:
        raise BackboneError(
            f"model.tied=true cannot share a table between {num_inputs} tokens and {num_outputs} logits",
            "The output layer would have the embedding's weights",
            "Use model.tied=false.",
        )


MODELS.add("gpt_small", ModelEntry(GPTConfig("gpt_small"), build))
MODELS.add("gpt", ModelEntry(GPTConfig("gpt", width=384, depth=6, num_heads=6, drop_rate=0.2), build))
