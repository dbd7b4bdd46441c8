"""Language modelling: the next token at every position, judged by bits per byte.

The networks here see one position each, so that they keep a causal backbone causal.
"""

import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd.data.batch import Batch
from isograd.data.field import Field, Fields, Tree
from isograd.errors import TaskError, UnknownNameError
from isograd.models.backbone import MAIN, Feature
from isograd.options import number
from isograd.registry import suggestion
from isograd.tasks.task import TASKS, Form, Head, Metrics, Score, Task, only_field

LOGITS = "logits"
VALID, NUM_BYTES, NUM_WORDS = "valid", "num_bytes", "num_words"
_IGNORED = -100  # a target that cross-entropy passes over


class LanguageMetrics(Metrics):
    """Cross-entropy over tokens, bytes and words.

    ``nll`` is in nats a token, ``perplexity`` its exponential. ``bits_per_byte`` and ``word_perplexity`` do not depend
    on the tokens, and are there where the data says how many bytes and words its tokens stand for; a line's end counts
    as a word.

    Args:
        next_name: Of the target.
        device: Where predictions are.
    """

    def __init__(self, next_name: str, device: torch.device) -> None:
        super().__init__(4, device)
        self._next = next_name

    def measure(self, prediction: Tree, targets: Tree) -> Tensor:
        """Returns nats, tokens, bytes and words of a batch. Shapes: logits (B, T, V) -> (4,)."""
        expected = expected_tokens(targets, self._next)
        nats = F.cross_entropy(prediction[LOGITS].flatten(0, 1).float(), expected, reduction="sum")
        counts = [targets[name].sum() if name in targets else nats.new_zeros(()) for name in (NUM_BYTES, NUM_WORDS)]
        return torch.stack([value.double() for value in (nats, (expected != _IGNORED).sum(), *counts)])

    def compute(self) -> dict[str, float]:
        """Returns what is defined of the four."""
        nats, num_tokens, num_bytes, num_words = self.sums.tolist()
        values: dict[str, float] = {}
        if num_tokens:
            values |= {"nll": nats / num_tokens, "perplexity": _exp(nats / num_tokens)}
        if num_bytes:
            values["bits_per_byte"] = nats / math.log(2) / num_bytes
        if num_words:
            values["word_perplexity"] = _exp(nats / num_words)
        return values


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def expected_tokens(targets: Tree, name: str) -> Tensor:
    """Returns the targets in a row, padded ones as cross-entropy passes over them. Shapes: (B, T) -> (B T,)."""
    tokens = targets[name]
    return (tokens.masked_fill(~targets[VALID], _IGNORED) if VALID in targets else tokens).flatten()


@TASKS.register("language")
class Language(Task):
    """The next token of V at each of T positions.

    Its forms: ``unembed`` (``auto``) is LayerNorm and a linear layer to V logits, weights of its own; ``lowrank`` has
    two linear layers with ``rank`` values between, for V of thousands, where a head of D V weights is larger than the
    blocks that it trains.
    """

    # nine blocks in three modules: each module has one that RepL can replace
    example = (
        "data=text",
        "data.context=12",
        "data.batch_size=8",
        "model=gpt_small",
        "model.depth=9",
        "model.width=16",
    )

    @dataclass
    class Config:
        """Attributes:
        rank: Of the ``lowrank`` heads.
        """

        name: str = "language"
        rank: int = number(64, least=1)

    def __init__(self, config: Config, inputs: Fields, targets: Fields) -> None:
        super().__init__(config, inputs, targets)
        self.next, field = only_field(targets, "tokens", of="targets", task="language")
        _, given = only_field(inputs, "tokens", of="inputs", task="language")
        if not field.is_fixed or len(field.shape) != 1 or given.shape != field.shape:
            raise TaskError(
                f"task=language cannot predict tokens of shape {field.shape} from tokens of shape {given.shape}",
                "It predicts the next token at each position of windows that all have one length (T,)",
                "Use data=text, or cut the data into windows of one length.",
            )
        self.num_tokens, self.num_values = field.fixed_shape[0], field.num_values or 0
        self.output = {LOGITS: Field((self.num_tokens, self.num_values), torch.float32, "vector")}
        self.score = Score("nll", "nats", higher_is_better=False, label="nll")
        if NUM_BYTES in targets:
            self.score = Score("bits_per_byte", "bits/byte", higher_is_better=False, label="bits per byte")

    def head(self, live: Mapping[str, Feature], form: Form) -> Head:
        """Builds LayerNorm and a linear layer, or two, on every position of the main value."""
        if form.name not in self.forms:
            raise UnknownNameError(
                f"task=language has no auxiliary network '{form.name}'.{suggestion(form.name, self.forms)}",
                f"It predicts at every position, from what is known there: {', '.join(self.forms)}",
                "Use method.auxiliary=auto.",
            )
        feature = live.get(MAIN)
        if feature is None or not feature.is_causal or feature.shape[0] != self.num_tokens:
            alive = ", ".join(f"{name} {value.shape}" for name, value in live.items())
            raise TaskError(
                f"task=language cannot predict {self.num_tokens} tokens from what is alive at the cut: {alive}",
                f"It reads the main value, '{MAIN}', with one vector for each token that sees none of the later ones",
                "Use a language model, such as model=gpt_small, and cuts where that value is alive.",
            )
        return Head(self._network(feature.channels, form), (MAIN,), (LOGITS,))

    def _network(self, width: int, form: Form) -> nn.Module:
        widths = (width, self.config.rank, self.num_values) if form.name == "lowrank" else (width, self.num_values)
        layers = [nn.Linear(given, wanted, bias=False) for given, wanted in itertools.pairwise(widths)]
        nn.init.normal_(layers[-1].weight, std=0.02)  # all tokens are about as likely at first
        return nn.Sequential(nn.LayerNorm(width), *layers)

    def loss(self, prediction: Tree, targets: Tree) -> tuple[Tensor, int | Tensor]:
        """Returns the mean cross-entropy over valid positions, and their number. Shapes: logits (B, T, V) -> ()."""
        expected = expected_tokens(targets, self.next)
        weight = (expected != _IGNORED).sum() if VALID in targets else expected.numel()
        return F.cross_entropy(prediction[LOGITS].flatten(0, 1), expected), weight

    def metrics(self, device: torch.device) -> LanguageMetrics:
        """Returns empty sums of nats, tokens, bytes and words."""
        return LanguageMetrics(self.next, device)

    def synthetic(self, size: int, generator: torch.Generator) -> Batch:
        """As of all tasks; every position is valid, and every token a byte."""
        batch = super().synthetic(size, generator)
        count = torch.full((size,), self.num_tokens)
        known = {VALID: torch.ones(size, self.num_tokens, dtype=torch.bool), NUM_BYTES: count, NUM_WORDS: count // 5}
        return replace(batch, targets={name: known.get(name, value) for name, value in batch.targets.items()})

    @property
    def forms(self) -> Collection[str]:
        """Those that see one position each."""
        return ("auto", "unembed", "lowrank")
