"""Every search space: its method's own configuration lies in it, and what is drawn from it can be trained."""

from collections import Counter

import optuna
import pytest

from isograd.engine.blueprint import Blueprint
from isograd.errors import IsogradError
from isograd.local.method import METHODS
from isograd.tune.ground import change_config, make_ground
from isograd.tune.request import parse
from isograd.tune.space_file import known_spaces

OPTIONS = ("data=parquet", "model=resnet20", "model.width=4")
PARTS = {"common", "bases", "adaptive"}  # of other spaces
METHODS_WITHOUT = {"e2e", "repl"}  # have one module, which is not cut


def test_every_method_has_a_space() -> None:
    assert set(METHODS) <= set(known_spaces())
    assert set(known_spaces()) - PARTS <= set(METHODS)


@pytest.mark.parametrize("name", [name for name in known_spaces() if name not in PARTS])
def test_what_is_drawn_can_be_trained(name: str) -> None:
    deeper = ["model=resnet32"] if name == "repl" else []  # of resnet20 it can only replace every second block
    request = parse(name, [*OPTIONS, *deeper])
    ground = make_ground(request.base)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    refused = Counter()
    for _ in range(30):
        settings = request.file.space.suggest(study.ask(), ground)
        try:
            Blueprint(change_config(request.base, settings)).check()
        except IsogradError as error:
            refused[error.what] += 1
    assert refused.total() <= (8 if name in ("hpff", "repl") else 0), refused  # which maps or blocks must fit


@pytest.mark.parametrize("name", [name for name in known_spaces() if name not in PARTS])
def test_a_search_starts_from_the_method_itself(name: str) -> None:
    request = parse(name, OPTIONS)
    ground = make_ground(request.base)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    start = request.file.space.start(ground)
    study.enqueue_trial(start)
    trial = study.ask()
    settings = request.file.space.suggest(trial, ground)
    assert trial.params == start
    for option, value in settings.items():
        if not option.startswith("partition"):
            assert ground.options[option] == pytest.approx(value)


@pytest.mark.parametrize("name", sorted(set(METHODS) - METHODS_WITHOUT))
def test_every_split_of_every_k_is_in_the_space(name: str) -> None:
    parameters = {parameter.name: parameter for parameter in parse(name, OPTIONS).file.space.parameters}
    assert not parameters["partition.ends"].when and not parameters["partition.num_modules"].when
