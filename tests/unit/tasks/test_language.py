"""Language modelling: its loss and metrics are the plain formulas."""

import math

import pytest
import torch
from torch.nn import functional as F

from isograd.data.field import Field, Fields
from isograd.errors import TaskError, UnknownNameError
from isograd.models.backbone import Feature
from isograd.seeding import generator
from isograd.tasks.language import Language, LanguageMetrics
from isograd.tasks.task import Form

T, V = 6, 11
CPU = torch.device("cpu")
TOKENS = Field((T,), torch.int64, "tokens", V)
TARGETS: Fields = {
    "next": TOKENS,
    "valid": Field((T,), torch.bool, "vector"),
    "num_bytes": Field((), torch.int64, "scalar"),
    "num_words": Field((), torch.int64, "scalar"),
}


def task(targets: Fields = TARGETS) -> Language:
    return Language(Language.Config(rank=3), {"tokens": TOKENS}, targets)


def example(seed: int = 0, size: int = 3) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    stream = generator(seed, "example")
    valid = torch.ones(size, T, dtype=torch.bool)
    valid[-1, 4:] = False
    targets = {
        "next": torch.randint(0, V, (size, T), generator=stream),
        "valid": valid,
        "num_bytes": torch.tensor([20, 30, 9])[:size],
        "num_words": torch.tensor([4, 5, 2])[:size],
    }
    return {"logits": torch.randn(size, T, V, generator=stream)}, targets


def test_loss_is_the_mean_over_valid_positions() -> None:
    prediction, targets = example()
    loss, weight = task().loss(prediction, targets)
    logs = prediction["logits"].log_softmax(-1).gather(-1, targets["next"][..., None])[..., 0]
    assert int(weight) == 16
    assert loss.item() == pytest.approx(-(logs * targets["valid"]).sum().item() / 16, rel=1e-6)


def test_metrics_are_their_formulas() -> None:
    prediction, targets = example()
    metrics = task().metrics(CPU)
    metrics.update(prediction, targets, 3)
    nats = 16 * task().loss(prediction, targets)[0].item()
    assert metrics.compute() == pytest.approx(
        {
            "nll": nats / 16,
            "perplexity": math.exp(nats / 16),
            "bits_per_byte": nats / math.log(2) / 59,
            "word_perplexity": math.exp(nats / 11),
        }
    )


def test_metrics_merge_and_come_back_from_their_state() -> None:
    whole, first, second = (task().metrics(CPU) for _ in range(3))
    for part, seed in ((first, 0), (second, 1)):
        for metrics in (whole, part):
            metrics.update(*example(seed), 3)
    resumed = task().metrics(CPU)
    resumed.load_state(first.state())
    resumed.merge(second)
    assert resumed.compute() == pytest.approx(whole.compute(), rel=1e-12) and resumed.num_samples == 6


def test_without_counts_and_validity_the_likelihood_judges() -> None:
    prediction, targets = example()
    plain = task({"next": TOKENS})
    assert (plain.score.metric, task().score.metric) == ("nll", "bits_per_byte")
    metrics, only = plain.metrics(CPU), {"next": targets["next"]}
    metrics.update(prediction, only, 3)
    expected = F.cross_entropy(prediction["logits"].flatten(0, 1), targets["next"].flatten()).item()
    assert metrics.compute() == pytest.approx({"nll": expected, "perplexity": math.exp(expected)})
    assert plain.loss(prediction, only) == (pytest.approx(expected), 18)


def test_a_uniform_model_has_the_logarithm_of_its_vocabulary() -> None:
    _, targets = example()
    metrics = LanguageMetrics("next", CPU)
    metrics.update({"logits": torch.zeros(3, T, V)}, targets, 3)
    assert metrics.compute()["nll"] == pytest.approx(math.log(V))


@pytest.mark.parametrize(("form", "num_weights"), [("auto", 16 + 8 * V), ("unembed", 16 + 8 * V), ("lowrank", 73)])
def test_heads_predict_at_every_position(form: str, num_weights: int) -> None:
    head = task().head({"x": Feature((T, 8), "NLC", is_causal=True)}, Form(form))
    assert head.module(torch.zeros(2, T, 8)).shape == (2, T, V)
    assert (head.reads, head.writes) == (("x",), ("logits",))
    assert sum(weight.numel() for weight in head.module.parameters()) == num_weights


def test_what_cannot_be_predicted_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"no auxiliary network 'unembd'.*Did you mean 'unembed'"):
        task().head({"x": Feature((T, 8), "NLC", is_causal=True)}, Form("unembd"))
    for feature in (Feature((8,), "NC"), Feature((T, 8), "NLC"), Feature((T + 1, 8), "NLC", is_causal=True)):
        with pytest.raises(TaskError, match="cannot predict 6 tokens"):
            task().head({"x": feature}, Form())
    with pytest.raises(TaskError, match="tokens of shape"):
        Language(Language.Config(), {"tokens": Field((4,), torch.int64, "tokens", V)}, TARGETS)
    with pytest.raises(TaskError, match="one field of kind 'tokens'"):
        Language(Language.Config(), {"image": Field((1, 8, 8), torch.uint8, "image")}, TARGETS)


def test_synthetic_batches_are_whole_windows_of_bytes() -> None:
    batch = task().synthetic(5, generator(0, "synthetic"))
    assert batch.targets["valid"].all() and batch.targets["num_bytes"].tolist() == [T] * 5
    assert batch.inputs["tokens"].shape == (5, T) and batch.inputs["tokens"].max() < V
