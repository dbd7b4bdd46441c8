"""The items of a command line, ``OPTION=VALUE``: taken apart, and refused where Hydra's syntax was meant.

isograd composes configurations with Hydra, but is no Hydra application: it has verbs, folders and searches of its own.
What Hydra's own command line would take is named here with what stands for it.
"""

import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from isograd.errors import ConfigError
from isograd.options import check_text
from isograd.registry import suggestion

Names = Callable[[], Collection[str]]  # of options and groups, asked for only where something is wrong

_SEVERAL = "isograd compare METHOD --seeds 0,1,2 --output DIR for several seeds, and isograd tune SPACE for a search"
_OTHERWISE = {  # of Hydra's own options
    "run": "folder=DIR run_name=NAME for where a run goes",
    "sweep": _SEVERAL,
    "sweeper": _SEVERAL,
    "launcher": "cluster.address=HOST:PORT for another cluster",
    "searchpath": "experiment=NAME, or a search space's own defaults",
    "job": "run_name=NAME",
    "output_subdir": "folder=DIR run_name=NAME for where a run goes",
}
_FLAGS: Mapping[str, str] = {  # Hydra's flags
    "-m": _SEVERAL,
    "--multirun": _SEVERAL,
    "--cfg": "isograd train --config, which prints every option with its value",
    "-c": "isograd train --config, which prints every option with its value",
    "--info": "isograd train --config, which prints every option with its value",
    "-i": "isograd train --config, which prints every option with its value",
    "--resolve": "isograd train --config, which prints every option with its value",
    "--config-path": "experiment=NAME, or OPTION=VALUE",
    "-cp": "experiment=NAME, or OPTION=VALUE",
    "--config-name": "experiment=NAME, or OPTION=VALUE",
    "-cn": "experiment=NAME, or OPTION=VALUE",
    "--config-dir": "experiment=NAME, or OPTION=VALUE",
    "-cd": "experiment=NAME, or OPTION=VALUE",
    "--package": "OPTION=VALUE, with the option's whole name",
    "-p": "OPTION=VALUE, with the option's whole name",
    "--run": "isograd train, which needs no flag for that",
    "-r": "isograd train, which needs no flag for that",
    "--experimental-rerun": "isograd resume FOLDER",
    "--shell-completion": "isograd --help",
    "-sc": "isograd --help",
    "--hydra-help": "isograd --help, and isograd train --config for every option with its value",
}
_CLOSING = {"[": "]", "{": "}"}
_OF_SHELL = re.compile(r"[\s;&|<>()$`\"'\\*?#{}]")  # what a shell does not take as it is
_NO_VALUE = re.compile(r"[+~]*[A-Za-z][\w.]*=|-(?!\.?\d)")  # another item, or a flag
_PAIR = re.compile(r"([^\s:=]*)[\s:=]*(.*)", re.DOTALL)  # an option, and a value after any sign


@dataclass(frozen=True)
class Item:
    """An option and what was written for it.

    Attributes:
        option: Its dotted name.
        text: All that follows the first equals sign, as it is.
    """

    option: str
    text: str

    def __str__(self) -> str:
        return f"{self.option}={self.text}"


def as_typed(option: str, text: str) -> str:
    """Returns an item as it is typed in a shell, in one word."""
    item = f"{option}={text}"
    return shlex.quote(item) if _OF_SHELL.search(item) else item


def split_all(items: Iterable[str], names: Names = tuple) -> list[Item]:
    """Takes the items of a command line apart; of those for one option, the last one wins.

    Args:
        items: As ``seed=3``.
        names: Of the options and groups that there are, to say which one was meant.

    Raises:
        ConfigError: One of them is none.
    """
    items = list(items)
    return [split(item, items[at + 1 :], names) for at, item in enumerate(items)]


def split(item: str, following: Sequence[str] = (), names: Names = tuple) -> Item:
    """Takes an item apart.

    Args:
        item: As ``seed=3``.
        following: What comes after it, which was meant for its value where it has none.
        names: Of the options and groups that there are.

    Raises:
        ConfigError: It has no equals sign, no name or no value, or is in Hydra's syntax.
    """
    option, sign, text = item.partition("=")
    check_text([item])
    _check_hydra(item, option)
    if not sign:
        _refuse_word(item, following, names)
    if not option or option != option.strip():
        raise ConfigError(
            f"'{item}' names no option",
            "The name stands right before the equals sign, without spaces",
            f"Use {option.strip() or 'OPTION'}={text or 'VALUE'}, or `isograd train --config` for the names.",
        )
    if not text:
        raise ConfigError(
            f"'{item}' has no value",
            "An empty one would be neither the default nor a value of its own",
            f"Use {option}={_value(following)}, or leave it out for its default.",
        )
    if "${" in text:
        raise ConfigError(
            f"{item} holds an interpolation, ${{...}}",
            "What is typed is taken as it is, and nothing would be put in its place",
            "Let the shell put the value in (outside of single quotes), or leave out the dollar sign.",
        )
    return Item(option, text)


def refuse_flag(flag: str, following: Sequence[str] = (), known: Sequence[str] = (), names: Names = tuple) -> NoReturn:
    """Raises ConfigError for a flag that a verb does not have, and says what may have been meant.

    Args:
        flag: As it was typed, with its value.
        following: What comes after it.
        known: The verb's flags.
        names: Of the options and groups that the verb takes.
    """
    name = flag.partition("=")[0]
    if name in _FLAGS:
        raise ConfigError(
            f"{name} is a flag of Hydra's own command line, which isograd does not have",
            "isograd composes configurations with Hydra, but what it runs, and where, it decides by its own verbs",
            f"Use {_FLAGS[name]}.",
        )
    typed, value = _pair(flag.lstrip("-"), following)
    bare = typed.replace("-", "_")
    option = next((other for other in (typed, bare) if other in names()), None)
    raise ConfigError(
        f"there is no flag {name} here.{'' if option else suggestion(name, known) or suggestion(bare, names())}",
        f"The verb has the flags {', '.join(known) or 'that its --help shows'}; options of a run have no dashes",
        f"Use {as_typed(option, value)}."
        if option
        else "Use what `isograd VERB --help` shows: the verb's flags and, where it takes options, OPTION=VALUE.",
    )


def refuse_several(option: str, text: str, values: Sequence[str]) -> NoReturn:
    """Raises ConfigError for several values where an option has one.

    Args:
        option: Its name.
        text: What was typed.
        values: What it stands for; empty: that cannot be told.
    """
    entries = " ".join(f"'{value}: {option}={value}'" for value in values) or f"'LABEL: {option}=VALUE' ..."
    if option == "seed":
        entries = f"METHOD --seeds {','.join(values) or '0,1,2'}"
    elif option == "method" and values:
        entries = " ".join(values)
    raise ConfigError(
        f"{option}={text} stands for several values, and a run has one",
        "isograd does not make several runs of one command, as Hydra's --multirun would",
        f"Use isograd compare {entries} --output DIR to compare them, or isograd tune SPACE to search among them.",
    )


def _check_hydra(item: str, option: str) -> None:
    if option == "hydra" or option.startswith(("hydra.", "hydra/")):
        part = option[len("hydra") + 1 :].partition(".")[0]
        raise ConfigError(
            f"{item} is an option of Hydra's own, which nothing here reads",
            "isograd composes configurations with Hydra, but folders, logs and several runs are its own",
            f"Use {_OTHERWISE.get(part, 'the options that `isograd train --config` shows')}.",
        )
    sign = item[: len(item) - len(item.lstrip("+~"))]
    if sign:
        name = option.lstrip("+~")
        raise ConfigError(
            f"{item} begins with {sign}, which "
            + ("takes an option away" if "~" in sign else "adds an option")
            + " in Hydra's syntax",
            "A run has the options that its parts declare, and an option that nothing reads would be ignored",
            f"Leave {name} out for its default."
            if "~" in sign
            else f"Use {item.lstrip('+~')}; keys within a mapping, as model.kwargs.NAME=VALUE, need no sign either.",
        )


def _refuse_word(item: str, following: Sequence[str], names: Names) -> NoReturn:
    if item.startswith("-"):
        refuse_flag(item, following, names=names)
    if item.endswith((".yaml", ".yml")):
        raise ConfigError(
            f"'{item}' is not an override",
            "Options are given as KEY=VALUE, and no file of them is read",
            "Use experiment=NAME for a preset, isograd resume FOLDER for a run, or isograd tune FILE.yaml for a space.",
        )
    option, value = _pair(item, following)
    known = names()
    raise ConfigError(
        f"'{item}' is not an override.{'' if option in known else suggestion(option, known)}",
        "Options are given as KEY=VALUE, in one word",
        f"Use {as_typed(option, value)}."
        if option in known
        else "Use OPTION=VALUE with an option that `isograd train --config` shows.",
    )


def _pair(item: str, following: Sequence[str]) -> tuple[str, str]:
    """Returns the option and the value that were meant, by whatever stands between them."""
    option, value = _PAIR.fullmatch(item).groups()  # pyright: ignore[reportOptionalMemberAccess]
    return option, value or _value(following)


def _value(following: Sequence[str]) -> str:
    """Returns the value that comes after an option, in a word of its own; VALUE where none does."""
    words = [word.lstrip("=:") for word in following]
    if not words or not any(words[:2]):
        return "VALUE"
    first = 0 if words[0] else 1  # after a sign in a word of its own
    value = words[first]
    for word in words[first + 1 :]:
        if value[:1] not in ("[", "{") or value.count(value[0]) == value.count(_CLOSING[value[0]]):
            break
        value += f" {word}"
    return "VALUE" if _NO_VALUE.match(value) else value
