"""An option that is a text has exactly the text that was written, wherever it was written."""

import operator
from pathlib import Path

import optuna
import pytest

from isograd.compare.arguments import parse as parse_comparison
from isograd.config.load import load, overridden
from isograd.config.stored import read_config
from isograd.config.written import from_command_line
from isograd.engine.config import fingerprint
from isograd.errors import ConfigError
from isograd.run.folder import RunFolder
from isograd.tune.ground import changed, ground_of
from isograd.tune.request import keep, kept, parse
from isograd.tune.space_file import load_space

TEXTS = [
    *("2026_11_28", "3.10", "1e3", "0x10", "0b1", "007", "1:30", "1_000", ".5", ".inf", ".nan", "1.", "-3", "+1"),
    *("yes", "no", "on", "off", "true", "False", "~", "Null", "none", "???", "2026-11-28", "12:00:00", "=", "<<", "-"),
    *("a=b", "a,b", "#b", "a #b", "a: b", "a:", "{}", "{a: 1}", "[]", "[1,2]", "(x)", "*a", "&a", "!a", "|", ">", "@x"),
    *(
        "'a'",
        '"a"',
        "it's",
        "`a`",
        "é",
        "日本",
        "e\u0301",
        "a b",
        " a",
        "a ",
        "  ",
        "50%",
        "%41",
        "$HOME",
        "\\n",
        "a\\",
    ),
    *("a\nb", "a\tb", "~/runs", "~root/x", "a/../b", "--x", "?", "int(3)", "choice(a,b)", "range(1,3)", "glob(*)"),
    *("a|b;c&d", "$(x)", "1e400", "NaN", "None", "TRUE", "0o17", "1__0", "1,000", "a\u00a0b"),
]
OPTIONS = [
    *("run_name", "folder", "data.path", "data.test_split", "data.image_column", "data.label_column"),
    *("cluster.address", "cluster.autoscaler", "precision.dtype"),
]


@pytest.mark.parametrize("first", range(0, len(TEXTS), len(OPTIONS)))
def test_a_text_is_what_was_typed(first: int, tmp_path: Path) -> None:
    typed = dict(zip(OPTIONS, TEXTS[first:], strict=False))
    items = [f"{option}={text}" for option, text in typed.items()]
    config = load(["data=parquet", *items, "seed=3"])
    assert {option: operator.attrgetter(option)(config) for option in typed} == typed
    run_folder = RunFolder(tmp_path)
    run_folder.write_config(config)
    assert read_config(run_folder.config) == config
    assert overridden(load(["data=parquet", "seed=3"]), items) == config
    assert changed(load(["data=parquet", "seed=3"]), typed) == config


def test_a_text_is_what_was_written_in_a_space(tmp_path: Path) -> None:
    texts = [text for text in TEXTS if "\n" not in text]
    quoted = ["'" + text.replace("'", "''") + "'" for text in texts]
    path = tmp_path / "space.yaml"
    path.write_text(
        f"parameters:\n  data.test_split: {{distribution: categorical, values: [{', '.join(quoted)}]}}\n"
        "  bias:\n    distribution: categorical\n    values:\n"
        + "".join(f"      {text}: {{data.image_column: {text}}}\n" for text in quoted),
        encoding="utf-8",
    )
    request = parse(str(path), [f"tune.folder={tmp_path}", "tune.name=kept"])
    keep(request)
    for asked in (request, kept(tmp_path / "kept")):
        values = {item.name: item.distribution.values for item in asked.file.space.parameters}  # pyright: ignore
        assert values["data.test_split"] == {text: {"data.test_split": text} for text in texts}
        assert values["bias"] == {text: {"data.image_column": text} for text in texts}


NUMBERS = [
    "2026_11_28",
    "3.10",
    "1e3",
    "0x10",
    "007",
    "1:30",
    "yes",
    "on",
    "true",
    "2026-11-28",
    "12:00:00",
    "null",
    "~",
]


@pytest.mark.parametrize("text", NUMBERS)
def test_a_text_needs_no_quotes_in_a_file(text: str, tmp_path: Path) -> None:
    space, label = tmp_path / "mine.yaml", "none" if text in ("null", "~") else text  # a key is never null
    space.write_text(
        f"options: {{data: parquet, data.path: {text}}}\n"
        "parameters:\n"
        f"  data.label_column: {{distribution: categorical, values: [{text}, b]}}\n"
        f"  data.image_column: {{distribution: categorical, values: [a], when: {{data.label_column: {text}}}}}\n"
        f"  kind: {{distribution: categorical, values: {{{label}: {{data.test_split: {text}}}}}}}\n"
        f"  data.flip: {{distribution: categorical, values: [true], when: {{kind: {label}}}}}\n"
    )
    file = load_space(str(space))
    assert file.options == {"data": "parquet", "data.path": text}
    assert load([], file.options).data.path == text
    found = {item.name: item for item in file.space.parameters}
    assert list(found["data.label_column"].distribution.values) == [text, "b"]  # pyright: ignore
    assert found["data.image_column"].when == {"data.label_column": (text,)}
    assert found["kind"].distribution.values == {label: {"data.test_split": text}}  # pyright: ignore
    assert found["data.flip"].when == {"kind": (label,)}
    written = RunFolder(tmp_path)
    written.write_config(load([]))
    edited = written.config.read_text().replace("run_name: null", f"run_name: {text}")
    written.config.write_text(edited.replace("folder: runs", f"folder: {text}"))
    config = read_config(written.config)
    assert config.folder == text and config.run_name == (None if text in ("null", "~") else text)


def test_only_options_that_may_be_null_are_null() -> None:
    config = load(["run_name=null", "data=parquet", "data.path=null", "folder=null", "cluster.address=null"])
    assert (config.run_name, config.data.path, config.folder, config.cluster.address) == (None, "null", "null", None)


def test_texts_in_lists_and_mappings_are_texts_as_well() -> None:
    explicit = load(["partition=explicit", "partition.ends=[1e3, 007,'a,b',é x]"])
    assert explicit.partition.ends == ["1e3", "007", "a,b", "é x"]
    lists = load(["method=mlaan", "method.lists={layer1.0:[007,1e3]}", "method.lists.layer2.0=[1:30]"]).method.lists
    assert lists == {"layer1.0": ["007", "1e3"], "layer2.0": ["1:30"]}
    for items in (["method.options.head=1e3"], ["method.options={head: 1e3}"]):
        assert load(["method=repl", *items, "method.wraps=man"]).method.options == {"head": "1e3"}
    with pytest.raises(ConfigError, match="with a space after the colon"):
        load(["method=repl", "method.options={head:1e3}", "method.wraps=man"])
    assert load(["model=timm/1e3"]).model.architecture == "1e3"
    assert from_command_line("x", str | None, "null") is None and from_command_line("x", str, "null") == "null"


def test_what_is_no_text_is_read_as_before() -> None:
    config = load(["model=timm", "model.kwargs={depth: 3, act: gelu, on: true}", "optimizer.lr=1e-1", "seed=+7"])
    assert config.model.kwargs == {"depth": 3, "act": "gelu", "on": True}
    assert (config.optimizer.lr, config.seed) == (0.1, 7)
    assert load(["model=timm", "model.kwargs.a.b=1"]).model.kwargs == {"a": {"b": 1}}
    assert load(["data.mean=[0.5]", "executor.num_stages=null"]).data.mean == [0.5]


@pytest.mark.parametrize(
    ("item", "plain"),
    [
        *(("seed=010", "10"), ("seed=1_0", "10"), ("seed=-007", "-7"), ("executor.num_stages=02", "2")),
        *(("optimizer.lr=1_0.5", "10.5"), ("optimizer.lr=00.5", "0.5"), ("optimizer.lr=1e-1_0", "1e-10")),
        *(("data.mean=[1,8,8_0]", "80"), ("data.mean=[01]", "1"), ("task.label_smoothing='0_1'", "1")),
    ],
)
def test_a_number_is_written_as_anyone_reads_it(item: str, plain: str) -> None:
    with pytest.raises(ConfigError, match=rf"Use {plain} in its place\."):
        load([item])


def test_a_number_is_plain_within_a_mapping_and_a_file_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.kwargs\.a has 1_0"):
        load(["model=timm", "model.kwargs={a: 1_0}"])
    path = tmp_path / "mine.yaml"
    path.write_text("defaults: [dgl, _self_]\noptions: {data.batch_size: 010}\n")  # 8 in YAML 1.1
    with pytest.raises(ConfigError, match="Use 10 in its place"):
        load_space(str(path))


@pytest.mark.parametrize("text", ["2", "-1", "01", "t", "null"])
def test_a_truth_is_no_other_number(text: str) -> None:
    with pytest.raises(ConfigError, match=r"Use data\.flip=true or data\.flip=false\."):
        load([f"data.flip={text}"])


def test_plain_numbers_and_truths_are_read() -> None:
    found = load(["seed= 3 ", "optimizer.lr=1e3", "optimizer.weight_decay=.5", "data.flip=Yes", "train.epochs=+3"])
    assert (found.seed, found.optimizer.lr, found.optimizer.weight_decay) == (3, 1000, 0.5)
    assert (found.data.flip, found.train.epochs, load(["data.flip=0"]).data.flip) == (True, 3, False)


def test_a_space_keeps_the_space_of_a_path(tmp_path: Path) -> None:
    (tmp_path / "a b é").mkdir()
    path = tmp_path / "a b é" / "my=space, v2.yaml"
    path.write_text(
        "defaults: [dgl, _self_]\noptions: {data: parquet, data.path: /data/with space, data.mean: [0.5]}\n"
    )
    request = parse(str(path), ["data.test_split=with space", "space.method.auxiliary.values=[linear,mlp]"])
    assert request.base.data.path == "/data/with space" and request.base.data.test_split == "with space"
    assert request.file.name == "my=space, v2"
    request = parse(str(path), ["+space.data.image_column={distribution: categorical, values: [a b/é, 007]}"])
    found = {item.name: item.distribution for item in request.file.space.parameters}
    assert list(found["data.image_column"].values) == ["a b/é", "007"]  # pyright: ignore


def test_a_condition_may_name_the_value_of_a_label(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "parameters:\n"
        "  optimizer.lr: {distribution: categorical, values: [0.1]}\n"
        "  optimizer.momentum: {distribution: float, low: 0.5, high: 0.9, when: {optimizer.lr: 0.1}}\n"
    )
    request = parse(str(path), [])
    settings = request.file.space.suggest(optuna.create_study().ask(), ground_of(request.base))
    assert set(settings) == {"optimizer.lr", "optimizer.momentum"}


def test_an_entry_of_a_comparison_is_quoted_as_in_a_shell(tmp_path: Path) -> None:
    item = """mine: method=dgl 'data.path=/a b/é' data.test_split=3.10 folderless="""
    (asked,) = parse_comparison([item], output=tmp_path).asked
    assert asked.overrides == ("method=dgl", "data.path=/a b/é", "data.test_split=3.10", "folderless=")
    assert load(["data=parquet", *asked.overrides[:3]]).data.path == "/a b/é"
    with pytest.raises(ConfigError, match="quotes without an end"):
        parse_comparison(["mine: method=dgl data.path='/a b"], output=tmp_path)


@pytest.mark.parametrize("item", ["run_name=${seed}", "data.path=a${", "optimizer.lr=${x}", "partition.ends=[${x}]"])
def test_an_interpolation_is_refused(item: str) -> None:
    with pytest.raises(ConfigError, match=r"holds an interpolation, \$\{\.\.\.\}"):
        load(["partition=explicit", item])


@pytest.mark.parametrize("text", ["${options.folder}", "a${x"])
def test_an_interpolation_of_a_text_is_refused_in_a_space(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"defaults: [dgl, _self_]\noptions: {{folder: x, data.path: '{text}'}}\n")
    with pytest.raises(ConfigError, match=r"holds an interpolation|cannot be composed"):
        load_space(str(path))


def test_a_text_does_not_change_what_a_run_is() -> None:
    assert fingerprint(load(["method=infopro", "method.head=1c2f"])) == fingerprint(load(["method=infopro"]))
