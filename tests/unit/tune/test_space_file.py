"""Spaces from files: composed, with conditions, and with the line of what is wrong."""

import re
import shlex
from pathlib import Path

import optuna
import pytest

from isograd.errors import ConfigError, IsogradError, SpaceError
from isograd.tune.ground import make_ground
from isograd.tune.proposer import check_request
from isograd.tune.request import parse
from isograd.tune.space_file import load_space
from isograd.tune.sweep import remark
from tests.language import SMALL as LANGUAGE
from tests.language import write_text

HEAD = "options: {method: man}\nparameters:\n"


def written(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_a_space_of_ones_own_begins_with_others(tmp_path: Path) -> None:
    file = load_space(
        written(
            tmp_path,
            "defaults: [man, _self_]\n"
            "parameters:\n"
            "  optimizer: null\n"
            "  method:\n"
            "    decay: {low: 0.9}\n"
            "    lag: {distribution: int, low: 0, high: 3}\n",
        ),
        ["method.decay.high=0.99", "~method.widen"],
    )
    names = [parameter.name for parameter in file.space.parameters]
    decay = next(parameter for parameter in file.space.parameters if parameter.name == "method.decay")
    assert "method.lag" in names and "method.widen" not in names
    assert not any(name.startswith("optimizer") for name in names)
    assert str(decay.distribution) == "number from 0.9 to 0.99, log scale of 1 - value"


def test_a_space_changes_the_distribution_of_a_default(tmp_path: Path) -> None:
    head = "defaults: [dgl, _self_]\nparameters:\n  optimizer:\n    lr:\n      distribution: categorical\n"
    values = "      values: [0.3, 0.1]\n"
    with pytest.raises(SpaceError, match=r"common\.yaml:\d+: .*'low'.* Use .* low: null"):
        load_space(written(tmp_path, head + values))
    file = load_space(written(tmp_path, head + values + "      low: null\n      high: null\n      log: null\n"))
    rate = next(parameter for parameter in file.space.parameters if parameter.name == "optimizer.lr")
    assert str(rate.distribution) == "one of 0.3, 0.1"


def test_conditions_leave_parameters_out() -> None:
    request = parse("man", ["model.width=4"])
    ground = make_ground(request.base)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(60):
        settings = request.file.space.suggest(study.ask(), ground)
        bias = (settings["method.blocks"], settings.get("method.fusion"))
        seen.add(bias)
        assert ("method.bias_lr" in settings) == (settings["method.blocks"] == "both")
        assert ("method.widen" in settings) == (settings["method.base"] == "infopro")
        assert len(settings["partition.ends"]) == settings["partition.num_modules"] - 1
    assert seen == {("ema", None), ("both", "sum"), ("both", "scaled")}


def test_what_depends_on_a_parameter_that_is_left_out_is_left_out_as_well() -> None:
    request = parse("mlaan", ["model.width=4"])
    ground = make_ground(request.base)
    assert ground.options["method.bias"] == "on"  # of the run itself, whose windows have no bias
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [request.file.space.suggest(study.ask(), ground) for _ in range(60)]
    without_leaps = [settings for settings in drawn if not settings["method.lam"]]
    assert without_leaps and not any("method.bias_lr" in settings for settings in without_leaps)
    assert any("method.bias_lr" in settings for settings in drawn)


LAG = "parameters: {method: {lag: {distribution: int, low: 0, high: 3}}}\n"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("  method:\n    decay:\n      distribution: float\n      low: 0.9\n      hgh: 1\n", ":7: .*unknown key 'hgh'"),
        ("  method:\n    decay: {distribution: flaot, low: 0.9, high: 0.99}\n", ":4: .*Did you mean 'float'"),
        ("  method:\n    decay: {distribution: float, low: 0.9}\n", ":4: .*it has no high"),
        ("  method:\n    decay: {distribution: float, low: 0.9, high: 1.2}\n", ":4: .*less than 1"),
        ("  method:\n    decay: {distribution: float, low: 0.99, high: 0.9}\n", ":4: .*low=0.99 is more than high=0.9"),
        ("  method:\n    decay: {distribution: float, low: a, high: 0.9}\n", ":4: .*low=a is not a number"),
        ("  method:\n    decay: {distribution: float, low: 0, high: 0.9, log: true}\n", ":4: .*above 0"),
        ("  method:\n    decay: {distribution: float, low: 0.1, high: 0.9, log: true, step: 0.1}\n", ":4: .*step=0.1"),
        ("  method:\n    dcay: {distribution: float, low: 0, high: 1}\n", ":4: .*Did you mean 'method.decay'"),
        ("  method:\n    init: {distribution: categorical, values: [cpoy]}\n", ":4: .*random or copy"),
        ("  method:\n    init: {distribution: categorical, values: []}\n", ":4: .*at least one value"),
        ("  bias:\n    distribution: categorical\n    values: {on: {method.block: ema}}\n", ":5: .*'method.block'"),
        ("  bias:\n    distribution: categorical\n    values: {on: ema}\n", ":5: .*sets ema, which is no option"),
        ("  method: {decay: 0.9}\n", ":3: method.decay=0.9 is no parameter"),
        (
            "  method:\n    decay:\n      {distribution: float, low: 0, high: 0.9, when: {biass: on}}\n",
            ":5: .*'biass' names no parameter and no option",
        ),
        (
            "  method:\n    init: {distribution: categorical, values: [copy]}\n"
            "    lag: {distribution: int, low: 0, high: 3, when: {method.init: random}}\n",
            ":5: .*method.init=random can never hold",
        ),
        (
            "  method:\n    lag: {distribution: int, low: 0, high: 3, when: {method.decay: 0.5}}\n"
            "    decay: {distribution: float, low: 0, high: 0.9, when: {method.lag: 1}}\n",
            "depend on each other",
        ),
        ("  method:\n    lag: {distribution: int, low: 0, high: 3, step: 0.5}\n", ":4: .*a whole number above 0"),
        ("  method:\n    lag: {distribution: int, low: 0, high: 3, step: 2}\n", ":4: .*Use high: 2"),
        ("  method:\n    decay: {distribution: float, low: 0.1, high: 0.25, step: 0.1}\n", ":4: .*Use high: 0.2"),
        ("  optimizer:\n    lr: {distribution: categorical, values: [0.1, '0.2']}\n", ":4: .*of another type"),
        *[
            (f"  method:\n    lag: {{distribution: int, low: 0, high: 3, when: {{{when}}}}}\n", ":4: .*can never hold")
            for when in ("method.lag: 1", "optimizer: banana", "optimizer.nesterov: 'true'", "optimizer: []")
        ],
        (
            "  partition:\n    num_modules: {distribution: int, low: 2, high: 4}\n"
            "  method:\n    lag: {distribution: int, low: 0, high: 3, when: {partition.num_modules: 9}}\n",
            ":6: .*partition.num_modules=9 can never hold",
        ),
        ("  method:\n    decay: {distribution: float, low: .nan, high: 0.9}\n", ":4: .*low=nan is not a number"),
        ("  method:\n    lag: {distribution: int, low: 2.5, high: 4}\n", ":4: .*a whole number.* Use low: 2"),
        ("  seed: {distribution: int, low: 0, high: 3}\n", ":3: seed cannot be set in a space"),
        ("  train:\n    epochs: {distribution: int, low: 1, high: 3}\n", ":4: train.epochs cannot be set in a space"),
        ("  cluster:\n    num_cpus: {distribution: int, low: 1, high: 3}\n", ":4: cluster.num_cpus cannot be set"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(SpaceError, match=f"mine.yaml{what}" if what.startswith(":") else what):
        parse(written(tmp_path, HEAD + text), [])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "mine.yaml: the search space has 0 parameters"),
        ("hello\n", "mine.yaml"),
        ("options: [method=dgl]\nparameters: {}\n", "mine.yaml:1: options=.* is no section"),
        ("options: {method: man, seed: 3}\n" + LAG, "mine.yaml:1: seed cannot be set in a space"),
        ("options: {method: man, train.max_steps: 3}\n" + LAG, "mine.yaml:1: train.max_steps cannot be set"),
        ("defaults: common\n" + LAG, "mine.yaml cannot be composed"),
        ("defaults: [mine]\n" + LAG, "mine.yaml has defaults that lead back to itself"),
        ("\xff\xfe", "mine.yaml cannot be composed"),
    ],
)
def test_what_is_no_space_is_refused(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "mine.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(SpaceError, match=what):
        parse(str(tmp_path / "mine.yaml"), [])


def test_what_a_command_line_sets_is_not_searched() -> None:
    items = ["optimizer.lr=0.2", "partition.num_modules=3", "partition=even"]
    request = parse("dgl", items)
    names = {parameter.name for parameter in request.file.space.parameters}
    assert {"optimizer.momentum", "method.auxiliary"} <= names
    assert not names & {"optimizer.lr", "partition.num_modules", "partition.ends"}
    assert request.base.optimizer.lr == 0.2 and request.base.partition.num_modules == 3
    assert "lr" not in request.file.tree["parameters"]["optimizer"], "a study keeps what it searches"


def test_trials_have_as_many_steps_as_their_schedule_goes_by(tmp_path: Path) -> None:
    write_text(tmp_path)
    items = [f"data.path={tmp_path}", "method.auxiliary=auto", "tune.grace_epochs=2"]
    request = parse("dgl", [*LANGUAGE, *items])
    assert request.base.train.max_steps == 6 and request.num_epochs == 1 < request.base.train.epochs
    assert [line for line in remark(request) if "asha stops no trial" in line and "=2 of 1 epoch." in line]
    with pytest.raises(SpaceError, match=r"max_steps cannot be set in a space.* with lr_schedule=cosine_steps"):
        parse("dgl", ["experiment=wikitext2_small", "+space.train.max_steps={distribution: int, low: 300, high: 900}"])


def test_what_is_wrong_in_a_default_is_said_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("parameters:\n  method:\n    lag: {distribution: int, low: 0}\n")
    with pytest.raises(SpaceError, match=r"base\.yaml:3: .*it has no high"):
        load_space(written(tmp_path, "defaults: [base, _self_]\noptions: {method: man}\n"))


@pytest.mark.parametrize(
    ("items", "what"),
    [
        (["space.partition.num_modules.high=40"], "the command line: .* up to 40, but the backbone has 11 units"),
        (
            ["space.partition.num_modules.low=20", "space.partition.num_modules.high=40"],
            "num_modules.low=11 space.partition.num_modules.high=11",
        ),
        (["space.optimizer.lr.high=0.001"], "the command line: .*low=0.01 is more than high=0.001. .* Use high: 0.01"),
        (["space.method.foo.low=1"], r"Use one of these, .* to add one \+space\.OPTION="),
        (
            ["space.method.auxiliary.values=[linear,mlpp]"],
            "method.auxiliary=mlpp can be trained: .* no auxiliary network",
        ),
        (["method=e2e"], r"dgl\.yaml:\d+: method.auxiliary=.* no such option"),
        (["data=cifar10", "data.path=/nowhere"], "there is no folder /nowhere"),
    ],
)
def test_a_space_that_does_not_fit_its_runs_is_refused(tmp_path: Path, items: list[str], what: str) -> None:
    with pytest.raises(IsogradError, match=what):
        check_request(parse("dgl", [f"tune.folder={tmp_path}", *items]))


@pytest.mark.parametrize(
    ("item", "what"),
    [
        ("tune.num_trails=3", "Did you mean 'num_trials'"),
        ("tune.num_trials=0", "at least 1"),
        ("tune.num_trials=abc", "tune.num_trials=abc is not a whole number"),
        ("tune.seeds=3", r"tune.seeds=3 is not a list of whole numbers.* Use tune.seeds=\[0,1,2\]"),
        ("+tune.num_trials=3", "begins with \\+, which adds an option in Hydra's syntax.* Use tune.num_trials=3"),
        ("~tune.num_trials", "begins with ~, which takes an option away in Hydra's syntax.* Leave tune.num_trials out"),
        ("tune.storage=sqlite://", "kept in memory"),
        ("tune.storage=sqlite:///:memory:", "kept in memory"),
        ("tune.seeds=[1,1]", "does not list seeds"),
        ("tune.objectives=[scor]", r"Did you mean 'score'.* Use tune.objectives=\[score\]"),
        ("tune.sampler=grid", "tpe or nsga2"),
        ("tune.name=a/b", "name of a folder"),
        ("seed=3", "tune.seeds"),
        (
            "train.max_steps=3",
            "max_steps=3 cannot be set in a sweep.* Use train.epochs=N, or .* with lr_schedule=cosine_steps",
        ),
        ("space.method.auxilary.values=[a]", "auxilary"),
    ],
)
def test_what_a_sweep_cannot_be_asked_for(item: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        parse("dgl", [item])


@pytest.mark.parametrize(
    ("items", "what"),
    [
        (["train.epochs=2"], [r"optimizer\.lr is searched, but has no effect in 2 epochs: lr_schedule=warmup_cosine"]),
        (["train.epochs=2", "optimizer=adamw"], []),
        (["train.epochs=2", "lr_schedule=cosine", "tune.grace_epochs=2"], [r"asha stops no trial.*=2 of 2 epochs"]),
        (["train.epochs=3"], []),
        (["train.epochs=1", "lr_schedule=cosine"], []),
    ],
)
def test_what_has_no_effect_is_remarked(items: list[str], what: list[str]) -> None:
    said = list(remark(parse("dgl", items)))
    assert len(said) == len(what)
    assert all(re.search(pattern, line) for pattern, line in zip(what, said, strict=True))


def test_nothing_searches_what_the_command_line_sets() -> None:
    """A parameter of any name is left out where it would set an option that is given."""
    names = {parameter.name for parameter in parse("hpff", ["method.patches=none"]).file.space.parameters}
    assert names.isdisjoint({"patches_of_dgl", "patches_of_infopro", "patches_of_others"}) and "method.window" in names


def test_an_unknown_space_is_named() -> None:
    with pytest.raises(SpaceError, match="Did you mean 'mlaan'"):
        load_space("mlan")


@pytest.mark.parametrize(
    ("item", "mend"),
    [
        ("space.lr.low=0.1", "space.optimizer.lr.low=0.1"),
        ("space.learning_rate.low=0.02", "space.optimizer.lr.low=0.02"),
        ("space.optimizer.lr.low 0.02", "space.optimizer.lr.low=0.02"),
        ("space.method.auxilary.values=[mlp]", "space.method.auxiliary.values=[mlp]"),
        ("space.method.auxiliary.value=[mlp]", "space.method.auxiliary.values=[mlp]"),
        ("space.partition.num_modules.when={optimizer: sgd}", "'+space.partition.num_modules.when={optimizer: sgd}'"),
        (
            "space.data.padding={distribution: int, low: 0, high: 1}",
            "'+space.data.padding={distribution: int, low: 0, high: 1}'",
        ),
        ("~space.method.auxilary", "~space.method.auxiliary"),
    ],
)
def test_a_mend_of_a_space_works_when_typed(item: str, mend: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse("dgl", [item])
    assert re.match(rf"Use {re.escape(mend)}(\.$|,| to)", refused.value.mend), refused.value.mend
    parse("dgl", shlex.split(mend))


@pytest.mark.parametrize("item", ["space.method.foo.low=3", "space.foo=3"])
def test_what_is_like_no_parameter_is_added_by_a_whole_one(item: str) -> None:
    with pytest.raises(ConfigError, match=r"\+space\.OPTION=\{distribution: float, low: LOW, high: HIGH\}"):
        parse("dgl", [item])
    parse("dgl", ["+space.task.label_smoothing={distribution: float, low: 0, high: 0.1}"])
