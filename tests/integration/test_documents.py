"""What the documents tell a reader to type is understood, and what they point to is there."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from isograd.bench.bench import BENCHES
from isograd.cli.main import VERBS, _parse
from isograd.compare import arguments
from isograd.config.load import load
from isograd.engine.check import check
from isograd.prepare.originals import SOURCES
from isograd.tune import request
from tests.conformance.test_adapters import CASES, LARGE
from tests.conformance.test_refused_networks import REFUSED

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("*/README.md"))]
# What a reader is to fill in, or has to write before.
_PLACEHOLDER = re.compile(r"\b(NAME|SPACE|STUDY|FOLDER|DIR|VALUE|OPTION|ROOT)\b|\.\.\.|\$|\bmine\.yaml")


def commands() -> list[str]:
    """Returns every command of the documents, of blocks and of lines, without those that have a place to fill in."""
    found = set[str]()
    for path in DOCUMENTS:
        text = path.read_text().replace("\\\n", " ")
        blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        found |= {line for block in blocks for line in block.splitlines() if line.startswith("isograd ")}
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        found |= {re.sub(r"\s+", " ", span) for span in re.findall(r"`(isograd [^`]+)`", prose)}
    return sorted(line for line in found if not _PLACEHOLDER.search(line))


@pytest.mark.parametrize("command", commands())
def test_a_command_is_understood(command: str, tmp_path: Path) -> None:
    _, verb, *rest = shlex.split(command, comments=True)
    assert verb in VERBS
    if rest:
        understand(_parse([verb, *rest]), tmp_path)


def understand(options: argparse.Namespace, folder: Path) -> None:
    """Does what the verb does with its arguments before it opens anything."""
    match options.run.__module__.rpartition(".")[2]:
        case "train" | "plan" if not getattr(options, "from_trial", None):
            check(load(options.overrides))
        case "compare":
            asked = arguments.parse(options.overrides, output=folder, seeds=options.seeds, rule=options.rule)
            for entry in asked.asked:
                check(load([*asked.overrides, *entry.overrides]))
        case "tune":
            request.parse(options.space, options.overrides)
        case "bench":
            assert options.name in BENCHES
        case "prepare":
            assert options.dataset in SOURCES


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_points_to_is_there(path: Path) -> None:
    text = path.read_text()
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", text)
    named = re.findall(r"\b(?:tests|examples|platform|methods)/[\w./]+\w", text)
    assert not [link for link in links if not (path.parent / link).exists()]
    assert not [name for name in named if not (ROOT / name).exists()]


def test_the_table_of_errors_is_of_runs_that_hold_nothing_out() -> None:
    (command,) = [command for command in commands() if "model.stem_stride=2" in command]
    assert "data.valid=0" in shlex.split(command), "its numbers are of trainings on all 50,000 samples"


def test_the_numbers_of_networks_are_those_of_the_tests() -> None:
    text = re.sub(r"\s+", " ", (ROOT / "README.md").read_text())
    assert f"{len([*CASES, LARGE])} of them are tested to compute the same bits" in text
    assert f"{len(REFUSED)} of those have none and are refused" in text
