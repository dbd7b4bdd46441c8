"""Executors by name: what each says of itself, whose options are whose, and that nothing else asks for the name."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import isograd
from isograd.config.load import load, overridden
from isograd.engine.blueprint import Blueprint
from isograd.engine.config import rounding
from isograd.errors import ConfigError, ExchangeError, IsogradError
from isograd.executors.executor import EXECUTORS, Layout, check, executor_of, layout_of, make_executor
from isograd.executors.pipeline.config import PipelinedConfig

PACKAGE, ROOT = Path(isograd.__file__).parent, Path(__file__).parents[3]


def comparisons_with_names(path: Path) -> list[int]:
    """Returns the lines of a file that hold a value against an executor's name."""
    lines = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare):
            texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
            lines += [node.lineno] if set(EXECUTORS) & set(map(str, texts)) else []
        elif isinstance(node, ast.match_case):
            texts = [part.value for part in ast.walk(node.pattern) if isinstance(part, ast.Constant)]
            lines += [node.pattern.lineno] if set(EXECUTORS) & set(map(str, texts)) else []
        elif isinstance(node, ast.Dict):
            keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
            lines += [node.lineno] if len(set(EXECUTORS) & keys) > 1 else []
    return lines


def test_no_file_tests_the_name_of_an_executor() -> None:
    paths = [path for root in (PACKAGE, ROOT / "methods") for path in root.rglob("*.py")]
    assert ROOT / "methods" / "repl" / "method.py" in paths  # it is linked, and no search of the package follows links
    found = {path: comparisons_with_names(path) for path in paths}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_listing_executors_imports_no_ray() -> None:
    command = (
        "import sys; sys.modules['ray'] = None\n"
        "from isograd.config.load import load\n"
        "from isograd.executors.executor import EXECUTORS\n"
        "configs = [load([f'executor={name}']) for name in EXECUTORS]\n"
        "assert len(configs) == 3 and 'torch.distributed.pipelining' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", command], check=True)


@pytest.mark.parametrize("name", list(EXECUTORS))
def test_an_executor_is_configured_by_its_own_class(name: str) -> None:
    config = load([f"executor={name}"])
    assert type(config.executor) is EXECUTORS.get(name).Config and executor_of(config) is EXECUTORS.get(name)


@pytest.mark.parametrize(
    ("items", "owners"),
    [
        (["executor=sequential", "executor.num_stages=2"], "executor=microbatch and executor=pipelined"),
        (["executor=sequential", "executor.channel=store"], "executor=pipelined"),
        (["executor=microbatch", "executor.queue_depth=3"], "executor=pipelined"),
        (["executor=microbatch", "executor.speeds=[1,2]"], "executor=pipelined"),
        (["executor.num_microbatches=4"], "executor=microbatch"),
        (["executor.schedule=gpipe"], "executor=microbatch"),
    ],
)
def test_an_option_of_another_executor_is_refused(items: list[str], owners: str) -> None:
    option = items[-1].partition("=")[0]
    with pytest.raises(ConfigError, match=rf"there is no option '{option}'\. It is an option of {owners}\."):
        load(items)


def test_another_executor_keeps_the_options_that_both_have() -> None:
    first = load(["executor.threads=2", "executor.device=cpu", "executor.num_stages=3", "executor.queue_depth=5"])
    alone = overridden(first, ["executor=sequential"])
    assert (alone.executor.threads, alone.executor.device) == (2, "cpu")
    split = overridden(first, ["executor=microbatch", "executor.chunks=1"])
    assert split.executor == EXECUTORS.get("microbatch").Config.of(first.executor, chunks=1)
    assert vars(split.executor)["num_stages"] == 3 and "queue_depth" not in vars(split.executor)
    again = PipelinedConfig.within(overridden(alone, ["executor=pipelined"]))
    assert (again.threads, again.num_stages, again.queue_depth) == (2, None, 2)
    with pytest.raises(ConfigError, match=r"there is no option 'executor\.channel'"):
        overridden(first, ["executor=sequential", "executor.channel=store"])


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("executor.queue_depth=0", "executor.queue_depth=0 is out of range. It has to be at least 1"),
        ("executor.cpus_per_stage=0", "executor.cpus_per_stage=0 is out of range. It has to be more than 0"),
        ("executor.timeline=-1", "executor.timeline=-1 is out of range"),
        ("executor.spread=odd", "executor.spread='odd' is not known. It can be even or balanced"),
    ],
)
def test_an_option_is_held_against_what_its_field_declares(item: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Blueprint(load([item]))


def test_layouts_are_those_of_the_executor() -> None:
    items = ["model.width=4", "partition.num_modules=3", "executor.device=cpu"]
    assert layout_of(Blueprint(load([*items, "executor=sequential"]))) == Layout((range(3),))
    assert layout_of(Blueprint(load([*items, "executor.num_stages=2"]))) == Layout((range(2), range(2, 3)))
    asked = [*items, "executor.num_stages=2", "executor.modules_per_stage=[1,2]"]
    assert layout_of(Blueprint(load(asked))).stages == (range(1), range(1, 3))
    end_to_end = ["model.width=4", "executor.device=cpu", "method=e2e", "executor=microbatch"]
    blueprint = Blueprint(load([*end_to_end, "executor.num_stages=3"]))
    assert layout_of(blueprint).num_processes == 3
    units = executor_of(blueprint.config).unit_stages(blueprint)
    assert units[0].start == 0 and units[-1].stop == len(blueprint.backbone.units)


def test_only_microbatches_and_threads_round_otherwise() -> None:
    assert rounding(load(["executor=sequential"])) == rounding(load(["executor.num_stages=2"])) == (1, 1)
    assert rounding(load(["executor.threads=2"])) == (2, 1)
    assert rounding(load(["executor=microbatch", "executor.num_microbatches=4"])) == (1, 4)


def test_what_an_executor_cannot_run_is_refused_before_it_opens() -> None:
    blueprint = Blueprint(load(["model.width=4", "method=dgl", "executor=microbatch"]))
    for refused in (check, make_executor):
        with pytest.raises(ExchangeError, match="executor 'microbatch' cannot run method 'dgl'"):
            refused(blueprint)
    with pytest.raises(IsogradError, match="cannot spread 4 local modules over 5 stages"):
        make_executor(Blueprint(load(["model.width=4", "executor.num_stages=5"])))
