"""Whether the trials of a study can be compared with those that are asked for now."""

from typing import Any

import optuna

from isograd.data.identity import Identity
from isograd.errors import StudyError
from isograd.system.passwords import hide_password
from isograd.tune.request import Request

IDENTITY = "isograd"  # of a study: what all its trials share


def check_identity(found: optuna.Study, request: Request, url: str) -> list[str]:
    """Checks that a study is about what is asked for: the same space, training, seeds and data.

    Args:
        found: The study.
        request: What is asked for.
        url: Of the study's storage.

    Returns:
        What could not be told, for a person to know.

    Raises:
        StudyError: It is about something else.
    """
    shown = hide_password(url)
    theirs, ours = found.user_attrs.get(IDENTITY), request.identity()
    if theirs is None:
        raise StudyError(
            f"study '{request.name}' in {shown} does not say what it is about",
            "Another program began it, or its storage is damaged",
            "Use another tune.name, or a copy of the storage.",
        )
    data, notes = ours.pop("data"), []
    if "data" not in theirs:
        notes.append("note: the study does not say what data it began with; that it is the same has not been checked")
    elif theirs["data"] != data:
        before, now = (Identity.from_json(tree) for tree in (theirs["data"], data))
        raise StudyError(
            f"the data is not what study '{request.name}' in {shown} began with: {before}, then; {now}, now",
            "Values of trials on other rows cannot be compared",
            "Use data.path=FOLDER with the data that it began with, or begin another study with another tune.name.",
        )
    differing = sorted(set(_different("", {name: part for name, part in theirs.items() if name != "data"}, ours)))
    if differing:
        raise StudyError(
            f"study '{request.name}' in {shown} is one of another space: it differs in {', '.join(differing[:6])}"
            + (f" and {len(differing) - 6} more" if len(differing) > 6 else ""),
            "Values of trials are only compared within one space, one training and the same seeds",
            "Use another tune.name, or the space and options that it was begun with.",
        )
    return notes


def _different(path: str, first: Any, second: Any) -> list[str]:
    if isinstance(first, dict) and isinstance(second, dict):
        keys = [*first, *(key for key in second if key not in first)]
        return [name for key in keys for name in _different(f"{path}.{key}", first.get(key), second.get(key))]
    return [] if first == second else [path.strip(".")]
