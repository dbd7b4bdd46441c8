"""What messages tell people to set exists."""

import ast
import dataclasses
import re
from pathlib import Path

from isograd.config.load import groups
from isograd.config.override import option_names
from isograd.tune.sweep_config import SweepConfig

ROOT = Path(__file__).parents[2]
OPTION = re.compile(r"(?<![\w./{}-])([a-z_]+(?:\.[a-z_]+)*)(?:<?=)(?=[^=\s]|$)")
# Of Python calls, not of a run.
ELSEWHERE = {"download", "inplace"}


def literals(node: ast.expr) -> str:
    """The text of a string, with the values in it as ``*``."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(str(p.value) if isinstance(p, ast.Constant) else "*" for p in parts)


def mends() -> list[tuple[str, str]]:
    found = []
    for path in sorted([*(ROOT / "platform").rglob("*.py"), *(ROOT / "methods").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
            if isinstance(node, ast.Call) and name.endswith("Error") and len(node.args) == 3:
                strings = [n for n in ast.walk(node.args[2]) if isinstance(n, ast.JoinedStr | ast.Constant)]
                found += [(f"{path.relative_to(ROOT)}:{node.lineno}", literals(text)) for text in strings]
    return found


def test_every_option_that_a_mend_names_exists() -> None:
    known = {*option_names(groups()), *groups(), "experiment", *ELSEWHERE}
    known |= {f"tune.{item.name}" for item in dataclasses.fields(SweepConfig)}
    named = [(place, name) for place, text in mends() for name in OPTION.findall(text)]
    assert len(named) > 40
    unknown = [(place, name) for place, name in named if name not in known and not name.startswith("model.kwargs.")]
    assert unknown == []
