"""Configuration: what it composes, and how it refuses."""

import dataclasses

import pytest
from omegaconf.errors import OmegaConfBaseException

from isograd.config.load import experiments, from_dict, load
from isograd.config.typed import typed
from isograd.engine.config import fingerprint, to_dict
from isograd.errors import ConfigError, UnknownNameError
from isograd.local.optimizer import OPTIMIZERS


@pytest.mark.parametrize("name", experiments())
def test_every_preset_composes(name: str) -> None:
    assert load([f"experiment={name}"]).train.epochs > 1


def test_a_configuration_survives_as_plain_values() -> None:
    config = load(["method=infopro", "model=vit_s", "optimizer=adamw", "executor.num_stages=2"])
    assert from_dict(to_dict(config)) == config


def test_the_fingerprint_covers_numbers_not_executors() -> None:
    base = fingerprint(load(["data=parquet"]))
    elsewhere = ["executor=pipelined", "executor.queue_depth=7", "folder=x", "data.path=y"]
    assert base == fingerprint(load(["data=parquet", *elsewhere]))
    assert base == fingerprint(load(["data=parquet", "executor=sequential"]))
    assert base == fingerprint(load(["data=parquet", "train.evaluate_every=5", "train.max_steps=9"]))
    assert base != fingerprint(load(["data=parquet", "optimizer.lr=0.2"]))
    assert base != fingerprint(load(["data=parquet", "seed=1"]))


@pytest.mark.parametrize(
    ("override", "error", "said"),
    [
        ("method=dlg", UnknownNameError, "Did you mean 'dgl'"),
        ("model=resnet23", UnknownNameError, "Did you mean 'resnet"),
        ("data=cifar", UnknownNameError, "Did you mean 'cifar10'"),
        ("train.epoch=3", ConfigError, "Did you mean 'train.epochs'"),
        ("optimizer.lr=fast", ConfigError, "optimizer.lr"),
        ("verbose", ConfigError, "KEY=VALUE"),
    ],
)
def test_what_nothing_reads_is_refused_with_a_suggestion(override: str, error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        load([override])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train.epochs=1", "train.epochs=1e0"], r"It is 15 unless it is set\."),
        (["experiment=cifar10_resnet32", "train.epochs=1", "train.epochs=x"], r"It is 400 unless it is set\."),
        (["optimizer.lr=3", "optimizer=adamw", "optimizer.lr=x"], r"It is 0\.001 unless it is set\."),
    ],
)
def test_a_default_is_not_what_another_item_set(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(overrides)


def test_a_preset_says_what_does_not_go_with_it() -> None:
    with pytest.raises(ConfigError, match=r"man_cifar10_resnet32' sets method\.\w+, which is not there"):
        load(["experiment=man_cifar10_resnet32", "method=dgl"])


def test_the_recipe_is_the_papers() -> None:
    config = load(["experiment=cifar10_resnet32"])
    assert dataclasses.asdict(config.optimizer) == {
        "name": "sgd",
        "lr": 0.8,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 1e-4,
    }
    assert (config.lr_schedule.name, config.data.batch_size, config.train.epochs) == ("warmup_cosine", 1024, 400)
    assert (config.data.padding, config.data.padding_mode, config.data.flip) == (4, "reflect", True)


def test_values_get_the_types_of_their_options() -> None:
    default = OPTIMIZERS.get("sgd")()
    found = typed(default, {"lr": 1, "momentum": "0.5", "nesterov": 0})
    assert (found.lr, found.momentum, found.nesterov) == (1.0, 0.5, False)
    assert [type(value) for value in (found.lr, found.momentum, found.nesterov)] == [float, float, bool]
    assert found.weight_decay == default.weight_decay and typed(default, {}) == default
    again = typed(default, {"lr": 1, "momentum": "0.5", "nesterov": 0})
    assert again == found and again is not found
    for values in ({"lr": "fast"}, {"rate": 1.0}, {"nesterov": "maybe"}):
        with pytest.raises(OmegaConfBaseException):
            typed(default, values)
