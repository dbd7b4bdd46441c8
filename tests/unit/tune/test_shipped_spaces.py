"""The spaces that come with the package search on every task, each what the task has."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isograd.tasks.task import TASKS
from isograd.tune.proposer import check_request
from isograd.tune.request import parse

SPACES = sorted(path.stem for path in (Path(__file__).parents[3] / "search_spaces").glob("*.yaml"))


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, ...]]:
    """Small data of the form of each task's."""
    text, train, test = (tmp_path_factory.mktemp(name) for name in ("text", "train", "test"))
    for split in ("train", "test"):
        (text / f"{split}.txt").write_text(f"{split} of a small text\n" * 200)
    for folder, number in ((train, 12), (test, 2)):
        for index in range(number):
            pixels = np.random.default_rng(index + number).integers(0, 256, (48, 48, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")
    return {
        "classification": (),
        "language": (f"data.path={text}",),
        "super_resolution": (f"data.path={train}", f"data.test_path={test}"),
    }


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("space", [space for space in SPACES if space not in ("common", "bases", "adaptive")])
def test_a_space_searches_on_every_task(
    space: str, task: str, options: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    items = (*TASKS.get(task).example, f"task={task}", *options[task], "executor=sequential", "data.valid=0.2")
    check_request(parse(space, [*items, f"tune.folder={tmp_path}"]))


@pytest.mark.parametrize(
    ("space", "item", "left", "gone"),
    [
        ("mlaan", "method.mlm=false", "method.num_leaps", "parts"),
        ("man", "method.blocks=both", "method.decay", "bias"),
        ("glcan", "method.branches=local", "method.local_depth", "method.branches"),
    ],
)
def test_what_the_command_line_sets_leaves_the_rest_of_a_space(space: str, item: str, left: str, gone: str) -> None:
    searched = {parameter.name for parameter in parse(space, [item]).file.space.parameters}
    assert left in searched and gone not in searched
