"""What a command line of `isograd compare` means."""

from pathlib import Path
from typing import Any

import pytest

from isograd.compare.arguments import Asked, parse, parse_seeds
from isograd.errors import IsogradError


def finished(path: Path) -> str:
    path.mkdir(parents=True)
    for name in ("result.json", "config.yaml"):
        (path / name).write_text("{}")
    return str(path)


def test_items_are_entries_overrides_or_runs(tmp_path: Path) -> None:
    request = parse(
        ["e2e", "DGL+MAN: method=man method.base=dgl", "model=resnet32", "cluster.address=ray://head:10001"],
        output=tmp_path,
        seeds="3,1",
    )
    assert request.asked == (
        Asked("e2e", ("method=e2e",)),
        Asked("DGL+MAN", ("method=man", "method.base=dgl")),
    )
    assert request.overrides == ("model=resnet32", "cluster.address=ray://head:10001")
    assert (request.seeds, request.rule, request.baseline) == ((3, 1), "epochs", "e2e")
    assert [asked.slug for asked in request.asked] == ["e2e", "dgl-man"]
    assert request.command.startswith("isograd compare e2e 'DGL+MAN: method=man method.base=dgl' model=resnet32")


def test_folders_of_finished_runs_are_taken_as_they_are(tmp_path: Path) -> None:
    folders = [finished(tmp_path / name) for name in ("a", "lr=0.1")]
    request = parse(folders, output=tmp_path / "out")
    assert request.runs == tuple(map(Path, folders))
    assert request.asked == request.overrides == request.seeds == ()
    assert request.baseline is None


def test_an_override_may_be_longer_than_a_name_of_a_file(tmp_path: Path) -> None:
    long = f"partition.ends=[{','.join(f'layer1.{block}' for block in range(100))}]"
    assert parse(["dgl", long], output=tmp_path).overrides == (long,)


def test_the_command_is_the_one_given(tmp_path: Path) -> None:
    request = parse(["dgl"], output=tmp_path, rule="device-seconds", device_s=1234567.0)
    assert "--device-seconds 1234567 " in request.command
    assert "--device-seconds 0.25 " in parse(["dgl"], output=tmp_path, rule="device-seconds", device_s=0.25).command


def test_a_long_label_names_a_folder(tmp_path: Path) -> None:
    (asked,) = parse([f"{'a' * 300}: method=dgl"], output=tmp_path).asked
    assert len(asked.label) == 300 and len(asked.slug) == 100


def test_a_label_may_be_of_any_alphabet(tmp_path: Path) -> None:
    asked = parse(["é: method=dgl", "日本: method=e2e", f"{'é' * 90}: method=dgl"], output=tmp_path).asked
    assert [entry.slug for entry in asked] == ["é", "日本", "é" * 50]


def test_seeds_are_whole_numbers_each_once() -> None:
    assert parse_seeds("0, 12,5") == (0, 12, 5)


BAD: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "nothing": ([], {}, "nothing to compare: 0 overrides"),
    "overrides only": (["model=resnet32"], {}, "nothing to compare: 1 overrides"),
    "same label": (["dgl", "dgl: method=dgl method.auxiliary=cnn"], {}, "the label 'dgl' is taken: 'dgl'"),
    "same folder": (["a+b: method=dgl", "A-B: method=e2e"], {}, "the label 'A-B' is taken: 'a+b'"),
    "no letters": (["+: method=dgl"], {}, "has neither letter nor digit"),
    "no overrides": (["mine:"], {}, "the entry 'mine:' has no overrides"),
    "no label": ([": method=dgl"], {}, "has no label"),
    "seed": (["dgl", "seed=1"], {}, "Use --seeds 0,1,2"),
    "folder": (["dgl: method=dgl folder=x"], {}, "Use --output DIR"),
    "no seed": (["dgl"], {"seeds": ""}, "--seeds  does not list seeds"),
    "words": (["dgl"], {"seeds": "0,one"}, "--seeds 0,one does not list seeds"),
    "negative": (["dgl"], {"seeds": "0,-1"}, "whole numbers from 0"),
    "twice": (["dgl"], {"seeds": "1,1"}, "each once"),
    "baseline": (["dgl", "e2e"], {"baseline": "e2f"}, "Did you mean 'e2e'?"),
    "budget without rule": (["dgl"], {"device_s": 5.0}, "Use --rule device-seconds as well"),
    "no budget": (["dgl"], {"rule": "device-seconds", "device_s": 0.0}, "--device-seconds 0 is no budget"),
    "infinite": (["dgl"], {"rule": "device-seconds", "device_s": float("inf")}, "is no budget"),
    "no such run": (["runs/nothing"], {}, "there is no such folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_meant_is_explained(tmp_path: Path, case: str) -> None:
    items, flags, said = BAD[case]
    with pytest.raises(IsogradError) as caught:
        parse(items, output=tmp_path, **flags)
    assert said in str(caught.value) and "Use " in caught.value.mend


def test_a_folder_without_a_result_is_explained(tmp_path: Path) -> None:
    with pytest.raises(IsogradError, match=r"it has no config\.yaml and no result\.json"):
        parse([str(tmp_path)], output=tmp_path)


@pytest.mark.parametrize("flags", [{"seeds": "0"}, {"rule": "epochs"}, {}])
def test_finished_runs_are_not_mixed_with_what_is_to_be_trained(tmp_path: Path, flags: dict[str, Any]) -> None:
    items = [finished(tmp_path / "a"), *([] if flags else ["dgl"])]
    with pytest.raises(IsogradError, match="1 finished runs do not go with"):
        parse(items, output=tmp_path, **flags)
