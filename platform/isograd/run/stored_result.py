"""A result as a run's folder has it: every field is held against its type, once, where it is read."""

import json
import math
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

from isograd.config.stored import reason
from isograd.errors import RunFolderError
from isograd.run.checkpoint import saved
from isograd.run.folder import RunFolder
from isograd.run.result import Result
from isograd.run.spent import Spent
from isograd.system.trouble import unreadable


class _Stage(TypedDict):
    device: str
    num_steps: int
    num_images: int
    peak_bytes: int


class _Epoch(TypedDict):
    epoch: int
    module_test_errors: list[float | None]


# What is read of the mappings in a result.
_ROWS = {"stages": list[_Stage], "history": list[_Epoch], "spent": list[Spent]}
_WORDS: dict[Any, str] = {int: "a whole number", float: "a finite number", str: "a text", NoneType: "null"}


def read_result(folder: Path) -> Result:
    """Reads the result of a run that came to its end.

    Raises:
        RunFolderError: There is none, or it is damaged: a field is missing, or is none of its type.
        MachineError: This user may not read it.
    """
    path = RunFolder(folder).result
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        _check(tree)
    except PermissionError as error:
        raise unreadable(path, error) from error
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{path} is no result of a run: {reason(error)}",
            "It is what a run is judged by, and something else has written into it, or its disk is damaged",
            f"Use `isograd resume {folder}`, which writes it again from the newest checkpoint."
            if saved(RunFolder(folder).checkpoints)
            else f"Delete {folder}, and make the run again: it has no checkpoint to write it from.",
        ) from error
    known = tree if "spent" in tree else _of_earlier_version(tree)
    return Result(**{item.name: known[item.name] for item in fields(Result) if item.name in known})


def has_result(folder: Path) -> bool:
    """Whether a run came to its end, and its result can be read. Raises MachineError where this user may not."""
    try:
        read_result(folder)
    except RunFolderError:
        return False
    return True


def _check(tree: Any) -> None:
    """Raises ValueError for what is no result, with the first field that is wrong."""
    if not isinstance(tree, dict):
        raise ValueError("it holds no fields")
    hints = get_type_hints(Result) | _ROWS
    for item in fields(Result):
        if item.name in tree:
            _check_value(item.name, hints[item.name], tree[item.name])
        elif item.default is MISSING and item.default_factory is MISSING:
            raise ValueError(f"it has no {item.name}")
    if not tree["stages"]:
        raise ValueError("its stages are none")


def _check_value(name: str, hint: Any, value: Any) -> None:
    if get_origin(hint) is list and isinstance(value, list):
        for position, item in enumerate(value):
            _check_value(f"{name}[{position}]", get_args(hint)[0], item)
    elif (is_typeddict(hint) or is_dataclass(hint)) and isinstance(value, dict):
        for key, inner in get_type_hints(hint).items():
            if key not in value:
                raise ValueError(f"{name} has no {key}")
            _check_value(f"{name}.{key}", inner, value[key])
    elif not any(_is(kind, value) for kind in _kinds(hint)):
        wanted = " or ".join(map(_word, _kinds(hint)))
        raise ValueError(f"{name} is {json.dumps(value)[:80]}, which is not {wanted}")


def _word(kind: Any) -> str:
    return _WORDS.get(kind, "a list" if get_origin(kind) is list else "a mapping")


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _is(kind: Any, value: Any) -> bool:
    if kind in (int, float):  # a JSON number without a point is a whole one; true and false are Python's 1 and 0
        is_number = isinstance(value, int) or (kind is float and isinstance(value, float))
        return is_number and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(kind, type) and isinstance(value, kind)


def _of_earlier_version(tree: dict[str, Any]) -> dict[str, Any]:
    """Returns a result whose speed, times and memory are those of the last leg only, without them if it had others."""
    stages = tree["stages"]
    if stages[-1]["num_steps"] < tree["num_steps"]:
        return tree | dict.fromkeys(("images_per_s", "wall_s", "device_s", "peak_bytes"))
    speed = tree["images_per_s"] or None
    return tree | {"images_per_s": speed, "peak_bytes": max(stage["peak_bytes"] for stage in stages)}
