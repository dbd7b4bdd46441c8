"""Options that say themselves which values they may have. A component declares them in its own ``Config`` dataclass.

The declarations are data in the dataclass fields' metadata; `isograd.engine.check` holds every run against them.
"""

import math
import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any

from isograd.errors import ConfigError

_LONGEST_NAME = 200


@dataclass(frozen=True)
class Range:
    """What a number may be: from ``least`` to ``most``, both included unless ``open`` or ``below`` excludes them.

    ``example`` is one that it may be, to name to the user.
    """

    least: float
    most: float = math.inf
    open: bool = False
    below: bool = False
    example: float | None = None

    def holds(self, value: float) -> bool:
        """Whether ``value`` is a number in the range."""
        above = value > self.least if self.open else value >= self.least
        under = value < self.most if self.below else value <= self.most
        return above and under and math.isfinite(value)

    def __str__(self) -> str:
        if self.least == -math.inf:
            return "a finite number"
        floor = f"more than {self.least:g}" if self.open else f"at least {self.least:g}"
        if self.most == math.inf:
            return floor
        return f"{floor} and {'less than' if self.below else 'at most'} {self.most:g}"


def choice(*known: str) -> Any:
    """Declares an option that has one of these values; the first is its default."""
    return field(default=known[0], metadata={"choices": known})


def number(default: float | None, least: float, most: float = math.inf, *, below: bool = False) -> Any:
    """Declares a number from ``least`` to ``most``, less than ``most`` where ``below`` says so."""
    return field(default=default, metadata={"range": Range(least, most, below=below, example=default)})


def check_number(option: str, value: float, allowed: Range) -> None:
    """Raises ConfigError for a number out of range."""
    if not allowed.holds(value):
        least = max(allowed.least, 1 if allowed.open else allowed.least)
        raise ConfigError(
            f"{option}={value:g} is out of range",
            f"It has to be {allowed}{'' if math.isfinite(value) else ', and finite'}",
            f"Use {option}={least if allowed.example is None else allowed.example:g}, for example.",
        )


def check_numbers(
    option: str, values: Sequence[float], count: int, meaning: str, allowed: Range, example: str = "1"
) -> None:
    """Raises ConfigError where an option is not a list of ``count`` numbers in range; ``meaning`` is for the user."""
    if len(values) != count or not all(allowed.holds(value) for value in values):
        raise ConfigError(
            f"{option}={list(values)} does not fit",
            f"It is {meaning}: {count} of them, each {allowed}",
            f"Use {option}=[{','.join([example] * count)}], with your values.",
        )


def check_choice(option: str, value: Any, known: Sequence[str]) -> None:
    """Raises ConfigError for a value that is not among those known."""
    if value not in known:
        raise ConfigError(
            f"{option}='{value}' is not known", f"It can be {' or '.join(known)}", f"Use {option}={known[0]}."
        )


def check_folder_name(option: str, name: str | None, where: str) -> None:
    """Raises ConfigError for what cannot name a folder below the one that the option ``where`` says."""
    if name is not None and (not name.strip(" .") or "/" in name or name.startswith(".")):
        raise ConfigError(
            f"{option}='{name}' cannot be the name of a folder below `{where}`",
            "It would be blank or hidden, or lie elsewhere",
            f"Use a name of letters and digits, without slashes, that does not begin with a dot, and {where}=PATH.",
        )
    if name is not None and (len(os.fsencode(name)) > _LONGEST_NAME or not name.isprintable()):
        raise ConfigError(
            f"{option}='{name[:40]}...' has {len(os.fsencode(name))} bytes"
            if name.isprintable()
            else f"{option}={name!r} has characters that cannot be shown",
            f"It names a folder; of the 255 bytes of a file's name {_LONGEST_NAME} are left, apart from what is added",
            f"Use a short name in one line, and {where}=PATH for the rest.",
        )


def check_text(items: Sequence[str]) -> None:
    """Raises ConfigError for items of a command line that hold what no text does: other bytes, control characters."""
    for item in items:
        shown = item.encode(errors="backslashreplace").decode()
        if any(unicodedata.category(char) == "Cs" for char in item):
            if _is_utf8(item):
                encoding = sys.getfilesystemencoding()
                raise ConfigError(
                    f"the argument {shown} has characters that {encoding} lacks",
                    f"The locale says that text is {encoding}; options and names of files are UTF-8 here",
                    "Set PYTHONUTF8=1, or a locale of UTF-8 (LC_ALL=C.UTF-8).",
                )
            raise ConfigError(
                f"the argument {shown} holds bytes that are no UTF-8",
                "Options are kept in YAML and JSON, which are",
                "Use names in UTF-8; `mv` or `convmv` renames a file, and a symbolic link gives it another name.",
            )
        bad = [char for char in item if unicodedata.category(char) == "Cc" and char not in "\t\n"]
        if bad:
            raise ConfigError(
                f"the argument {shown!r} has a character that is no text: {bad[0]!r}",
                "It could be written to no file of a run, and read back from none",
                "Use text without control characters.",
            )


def _is_utf8(argument: str) -> bool:
    """Whether an argument was UTF-8 before Python read it in the locale's encoding."""
    try:
        os.fsencode(argument).decode()
    except UnicodeError:
        return False
    return True


def check_declared(section: str, config: Any) -> None:
    """Raises ConfigError for the first option of a component that breaks its own declaration."""
    for item in fields(config):
        check_field(f"{section}.{item.name}", item, getattr(config, item.name))


def check_field(option: str, item: "Field[Any]", value: Any) -> None:
    """Raises ConfigError for a value of a dataclass's field that breaks its own declaration."""
    if "choices" in item.metadata:
        check_choice(option, value, item.metadata["choices"])
    if "range" in item.metadata and value is not None:
        check_number(option, value, item.metadata["range"])
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, float) and not math.isfinite(number):
            raise ConfigError(
                f"{option} holds {number}, which is no finite number",
                "Every loss and weight that it reaches would become NaN",
                f"Leave {option} out for its default, or use finite numbers.",
            )


def check_not_set(item: str, among: str, instead: Mapping[str, str]) -> None:
    """Raises ConfigError for an override of an option that is set for every run among several.

    Args:
        item: As ``seed=3``.
        among: What makes the runs, as ``a sweep``.
        instead: Option -> how it is set there.
    """
    key = item.partition("=")[0].lstrip("+~")
    if key in instead:
        raise ConfigError(
            f"{item} cannot be set in {among}",
            "Its runs share their length, and each has a seed and a folder of its own",
            f"Use {instead[key]}.",
        )
