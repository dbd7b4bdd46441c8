"""What is wrong with a configuration that was stored is said in plain words."""

from pathlib import Path

import pytest

from isograd.config.load import load
from isograd.config.stored import read_config
from isograd.errors import ConfigError
from isograd.run.folder import RunFolder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    RunFolder(tmp_path).write_config(load(["executor=sequential"]))
    return tmp_path / "config.yaml"


def test_what_is_not_stored_has_its_default(path: Path) -> None:
    text = path.read_text()
    path.write_text(text.replace("  keep: 2\n", ""))
    assert read_config(path) == load(["executor=sequential"])


DAMAGED = {
    "a: [": r"it is no YAML, in line 1",
    "- a: b\n- c": "it holds a list, where sections were to be",
    "": "it has no section 'model'",
    "model: resnet20": "the section 'model' is 'resnet20', where options were to be",
}


@pytest.mark.parametrize("text", DAMAGED)
def test_what_is_no_configuration_is_said(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"config\.yaml is no configuration: {DAMAGED[text]}"):
        read_config(path)


CHANGED = {
    ("name: resnet20", "nam: resnet20"): "the section 'model' has no name",
    ("lr: 0.1", "lr: fast"): 'optimizer.lr is "fast", not a number',
    ("epochs: 15", "epohs: 15"): "there is no option 'train.epohs'",
    ("epochs: 15", "epochs: [15]"): r"train.epochs is \[15\], not a whole number",
    ("checkpoint:\n", "checkpoint: 3\nother:\n"): "the section 'checkpoint' is '3', where options were to be",
}


@pytest.mark.parametrize("change", CHANGED, ids=lambda change: change[1])
def test_the_section_or_the_option_is_named(path: Path, change: tuple[str, str]) -> None:
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    with pytest.raises(ConfigError, match=rf"config\.yaml is no configuration: {CHANGED[change]}"):
        read_config(path)


def test_bytes_that_are_no_text_are_said(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\xff")
    with pytest.raises(ConfigError, match="it holds bytes that are no UTF-8"):
        read_config(path)
