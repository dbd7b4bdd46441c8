"""A record as a run's folder has it: every field is held against its type, once, where it is read."""

import json
import math
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

from isograd.config.stored import reason
from isograd.errors import RunFolderError
from isograd.events.events import EpochRecord
from isograd.run.checkpoint import saved
from isograd.run.folder import RunFolder
from isograd.run.record import FORMAT, RunRecord
from isograd.run.spent import Spent
from isograd.system.trouble import unreadable
from isograd.tasks.task import Score


class _Stage(TypedDict):
    device: str
    num_steps: int
    num_samples: int
    peak_bytes: int


_WORDS: dict[Any, str] = {int: "a whole number", float: "a finite number", str: "a text", NoneType: "null"}


def read_record(folder: Path) -> RunRecord:
    """Reads the record of a run that came to its end.

    Raises:
        RunFolderError: There is none, it is of another format, or damaged: a field is missing, or is none of its type.
        MachineError: This user may not read it.
    """
    path = RunFolder(folder).result
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        _check_format(path, tree)
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
    nested = {
        "score": Score(**tree["score"]),
        "epochs": [EpochRecord(**record) for record in tree["epochs"]],
        "spent": [Spent(**leg) for leg in tree["spent"]],
    }
    return RunRecord(**{item.name: tree[item.name] for item in fields(RunRecord)} | nested)


def has_record(folder: Path) -> bool:
    """Whether a run came to its end, and its record can be read. Raises MachineError where this user may not."""
    try:
        read_record(folder)
    except RunFolderError:
        return False
    return True


def _check_format(path: Path, tree: Any) -> None:
    """Raises RunFolderError for the result of another version of the package."""
    if isinstance(tree, dict) and (known := tree.get("format", 1)) != FORMAT:
        raise RunFolderError(
            f"{path} has format {known}, and this version reads format {FORMAT}",
            "What its run is judged by, and on which split, is written otherwise there",
            "Make the run again with `isograd train`, or read it with the version that wrote it.",
        )


def _check(tree: Any) -> None:
    """Raises ValueError for what is no record, with the first field that is wrong."""
    if not isinstance(tree, dict):
        raise ValueError("it holds no fields")
    for name, hint in (get_type_hints(RunRecord) | {"stages": list[_Stage]}).items():
        if name not in tree:
            raise ValueError(f"it has no {name}")
        _check_value(name, hint, tree[name])
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
    elif get_origin(hint) is dict and isinstance(value, dict):  # metrics, of which one may be undefined: no number
        for key, inner in value.items():
            if not isinstance(inner, float | int):
                raise ValueError(f"{name}.{key} is {json.dumps(inner)[:80]}, which is not a number")
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
