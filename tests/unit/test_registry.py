"""What a name that is not known may have been meant for, and what becomes of plug-ins that cannot be imported."""

from pathlib import Path

import pytest

from isograd import errors
from isograd.config.load import groups
from isograd.config.override import option_names
from isograd.errors import UnknownNameError
from isograd.registry import Registry, closest


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("lr", "optimizer.lr"),
        ("optimizer.learning_rate", "optimizer.lr"),
        ("learning_rate", "optimizer.lr"),
        ("optimizer.wd", "optimizer.weight_decay"),
        ("optimizer.momentun", "optimizer.momentum"),
        ("optimizer.foo", None),
        ("optimzer.lr", "optimizer.lr"),
        ("batch", "data.batch_size"),
        ("train.num_epochs", "train.epochs"),
        ("stages", "executor.num_stages"),
        ("seeds", "seed"),
        ("verbose", None),
    ],
)
def test_an_option_is_suggested_that_means_the_same(typed: str, meant: str | None) -> None:
    known = groups()
    assert closest(typed, [*option_names(known), *known]) == meant


def test_a_folder_that_cannot_be_imported_says_so_each_time_and_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, text in (("plugs", ""), ("plugs/broken", "raise RuntimeError('no engine')"), ("plugs/whole", "")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text(text)
    (tmp_path / "plugs" / "whole" / "part.py").write_text("from isograd import errors\nerrors.found_a_part = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("isograd.errors.found_a_part", False, raising=False)
    registry: Registry[int] = Registry("plug", "plugs")
    for _ in range(2):
        with pytest.raises(UnknownNameError, match=r"plugs\.broken cannot be imported \(RuntimeError: no engine\)"):
            registry.get("part")
    assert errors.found_a_part and list(registry) == []  # pyright: ignore[reportAttributeAccessIssue]
