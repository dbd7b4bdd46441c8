"""From what was written for an option to a value of the type that the option declares.

An option whose type is text has exactly the text that was written, on a command line and in a YAML file: ``3.10``,
``007``, ``2026_11_28`` and ``yes`` are no numbers, dates or truths there. An option that may be null is null where
``null`` was typed, or where a file has a null that is not quoted; of any other text, ``null`` is a word. What is no
text is read by Hydra's grammar on a command line, and as YAML in a file.
"""

import dataclasses
import re
import types
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from isograd.config.items import refuse_several
from isograd.errors import ConfigError

_INTERPOLATION = "${"
_FALSE, _TRUE = "false", "true"
_TRUTHS = (_FALSE, _TRUE, "no", "yes", "off", "on", "n", "y", "0", "1")
_NUMBER = re.compile(r"[-+]?(?=[^eE]*\d)[\d_]*\.?[\d_]*([eE][-+]?[\d_]+)?", re.ASCII)
_LEADING = re.compile(r"^([-+]?)0+(?=\d)", re.ASCII)
_MOST_NAMED = 8  # of the values that a sweep of Hydra's stands for


@dataclasses.dataclass(frozen=True)
class Declared:
    """What a component declares about one of its options.

    Attributes:
        path: Of the option within the component: its field, and the keys within a mapping.
        hint: The type. Of a mapping with another component's options, that component's class.
    """

    path: tuple[str, ...]
    hint: Any


def declared(owner: Any, name: str, choices: Mapping[str, Any]) -> Declared | None:
    """Returns what a component declares about an option; None: it has none of that name.

    Args:
        owner: The component, a dataclass.
        name: Of the option, without the component's: ``lr``, or ``kwargs.depth`` within a mapping.
        choices: The components of the same kind, for an option that holds those of another one (``options_of``).
    """
    first, _, rest = name.partition(".")
    found = {item.name: item for item in dataclasses.fields(owner)}.get(first)
    if found is None:
        return None
    hint, path = hints_of(type(owner))[first], (first,)
    if "options_of" in found.metadata:
        held = choices.get(getattr(owner, found.metadata["options_of"]))
        hint = hint if held is None else type(held)
    while rest:
        inner = _inner(hint)
        if inner is None:
            return None
        key, _, more = rest.partition(".") if _inner(inner("")) or inner("") is Any else (rest, "", "")
        hint, path, rest = inner(key), (*path, key), more
    return Declared(path, hint)


def from_command_line(option: str, hint: Any, text: str) -> Any:
    """Returns the value that was typed for an option.

    Args:
        option: Its dotted name.
        hint: Its type.
        text: What was typed after the first equals sign.

    Raises:
        ConfigError: It is no value of an option of that type.
    """
    bare, may_be_null = _bare(hint)
    if may_be_null and text == "null":
        return None
    if bare is str:
        return _text(option, text)
    if _items(bare) is str:
        return _list_of_texts(option, text)
    value = _parsed(option, hint, text)
    return as_declared(option, hint, value, _written(text))


def as_declared(option: str, hint: Any, value: Any, written: Any) -> Any:
    """Returns a value as it was written, wherever its type is text; numbers and truths are read as anyone reads them.

    Args:
        option: Its dotted name.
        hint: Its type.
        value: As the file's grammar reads it.
        written: The same with every scalar as it was written; None: not known.

    Raises:
        ConfigError: A text holds an interpolation, or what was written for it is not known; or a number or a truth is
            written so that people and programs read it otherwise.
    """
    bare, may_be_null = _bare(hint)
    if bare is str:
        return None if value is None and may_be_null else _as_text(option, value, written)
    if isinstance(written, str) and bare is bool and not (value is None and may_be_null):
        _check_truth(option, written)
    elif isinstance(written, str) and (bare in (int, float) or isinstance(value, int | float)):
        _check_plain(option, written)
    item, inner = _items(bare), _inner(bare)
    if item is not None and isinstance(value, list):
        texts = written if isinstance(written, list) and len(written) == len(value) else [None] * len(value)
        return [as_declared(option, item, *pair) for pair in zip(value, texts, strict=True)]
    if inner is not None and isinstance(value, Mapping):
        texts = written if isinstance(written, Mapping) else {}
        keys = {key: written_key(texts, key) for key in value}
        return {
            text: as_declared(f"{option}.{text}", inner(text), value[key], texts.get(text))
            for key, text in keys.items()
        }
    return value


def written_key(written: Mapping[str, Any], key: Any) -> str:
    """Returns a mapping's key as it was written: ``007`` for what YAML reads as 7."""
    if isinstance(key, str) and key in written:
        return key
    return next((text for text in written if _read_yaml(text) == key and text != str(key)), str(key))


def load_yaml(path: Path) -> tuple[Any, Any]:
    """Returns what a YAML file holds, and the same with every scalar as it was written.

    Raises:
        OSError: It cannot be read.
        yaml.YAMLError: It is not YAML.
    """
    return OmegaConf.to_container(OmegaConf.load(path)), written_in(path)


def written_in(path: Path) -> Any:
    """Returns a YAML file's content with every scalar as the text that was written."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)


@lru_cache(maxsize=512)
def hints_of(component: type) -> dict[str, Any]:
    """Returns the types of a component's options by their names."""
    return get_type_hints(component)


def describe(hint: Any) -> str:
    """Returns what a value of a type is, for people."""
    bare, may_be_null = _bare(hint)
    names: dict[Any, str] = {int: "a whole number", float: "a number", bool: f"{_TRUE} or {_FALSE}", str: "a text"}
    plural: dict[Any, str] = {int: "whole numbers", float: "numbers", str: "texts"}
    text = names.get(bare, "a mapping" if _inner(bare) else "a value of its type")
    if _items(bare) is not None:
        text = f"a list of {plural.get(_items(bare), 'values')}"
    return f"{text}, or null" if may_be_null else text


def example(hint: Any, text: str) -> str:
    """Returns how a value of that type could be typed, as near to what was typed as one can say."""
    bare, _ = _bare(hint)
    if _items(bare) is not None:
        return f"[{text.strip('[](){} ')}]" if "," in text else {str: "[A,B]"}.get(_items(bare), "[1,2]")
    if bare is Any:
        return f"'{text}'"
    return {int: "8", float: "0.1", bool: _TRUE}.get(bare, "{KEY: VALUE}" if _inner(bare) else "VALUE")


def is_text(owner: Any, name: str) -> bool:
    """Whether a component has an option of that name, and its values are texts."""
    return _bare(hints_of(type(owner)).get(name))[0] is str


def is_list(hint: Any) -> bool:
    """Whether values of a type are lists."""
    return _items(_bare(hint)[0]) is not None


def _bare(hint: Any) -> tuple[Any, bool]:
    """Returns a type without null, and whether it has null."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, False
    others = [item for item in get_args(hint) if item is not types.NoneType]
    return others[0] if len(others) == 1 else hint, len(others) < len(get_args(hint))


def _items(hint: Any) -> Any:
    """Returns the type of a list's items; None: it is no list."""
    arguments = get_args(hint)
    is_sequence = isinstance(get_origin(hint), type) and issubclass(get_origin(hint), Sequence)
    return arguments[0] if is_sequence and arguments else None


def _inner(hint: Any) -> Callable[[str], Any] | None:
    """Returns the types of a mapping's values by their keys; None: it is no mapping."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return lambda key: hints_of(hint).get(key, Any)
    if hint is dict or get_origin(hint) is dict:
        return lambda key: (*get_args(hint), Any, Any)[1]
    return (lambda key: Any) if hint is Any else None


def _check_truth(option: str, text: str) -> None:
    if text.strip().lower() not in _TRUTHS:
        raise ConfigError(
            f"{option}={text} is not {_TRUE} or {_FALSE}",
            "It can be yes or no, on or off, and 1 or 0 as well; 2 would be read as true, which nobody means",
            f"Use {option}={_TRUE} or {option}={_FALSE}.",
        )


def _check_plain(option: str, text: str) -> None:
    """Refuses numbers that Python, YAML 1.1 and YAML 1.2 read in different ways: 010 is 8 or 10, 1_0 a text or 10."""
    text = text.strip()
    plain = _LEADING.sub(r"\1", text.replace("_", ""))
    if _NUMBER.fullmatch(text) and plain != text:
        raise ConfigError(
            f"{option} has {text}, which may be read as another number than {plain}",
            "Zeros before a number, and underscores within it, mean different things to different programs",
            f"Use {plain} in its place.",
        )


def _text(option: str, text: str) -> str:
    if _INTERPOLATION in text:
        raise ConfigError(
            f"{option}={text} holds an interpolation, ${{...}}",
            "A text is taken as it is written, and nothing would be put in its place",
            "Let the shell put the value in (outside of single quotes), or leave out the dollar sign.",
        )
    return text


def _as_text(option: str, value: Any, written: Any) -> str:
    if isinstance(written, str):
        return _text(option, written)
    if isinstance(value, str):
        return _text(option, value)
    raise ConfigError(
        f"{option}={value} is {describe(type(value))}, but the option is a text",
        "What was written for it cannot be told from what it was read as",
        f"Put it into quotes, with a space after the colon: {{{option.rpartition('.')[2]}: '...'}}.",
    )


def _list_of_texts(option: str, text: str) -> list[str]:
    written = _written(text)
    if isinstance(written, list) and all(isinstance(item, str) for item in written) and text.lstrip()[:1] == "[":
        return [_text(option, item) for item in written]
    raise ConfigError(
        f"{option}={text} is not a list of texts",
        "They stand between brackets, with commas between them; one with a comma in it, between quotes",
        f"Use {option}={example(list[str], text)}.",
    )


def _parsed(option: str, hint: Any, text: str) -> Any:
    """Reads what is no text, by Hydra's grammar."""
    try:
        found = _PARSER.parse_override(f"value={text}")
        if not found.is_sweep_override():
            return found.value()
        if is_list(hint):
            raise ConfigError(
                f"{option}={text} stands for several values in turn, not for a list of them",
                "A run has one value of each option",
                f"Use {option}={example(hint, text)}.",
            )
        refuse_several(option, text, _several(found))
    except HydraException as error:
        value = _read_yaml(text)  # which takes more characters, in lists and mappings
        if isinstance(value, list | dict):
            return value
        kind = "a value" if _bare(hint)[0] is Any else describe(hint)
        raise ConfigError(
            f"{option}={text} is not {kind}",
            f"It has characters that stand only between quotes which reach isograd, as \"...='TEXT'\" in a shell "
            f"({_first_line(error)})",
            f"Use {option}={example(hint, text)}, for example.",
        ) from error


def _several(override: Override) -> list[str]:
    return [] if isinstance(override.value(), Glob) else list(islice(override.sweep_string_iterator(), _MOST_NAMED))


def _written(text: str) -> Any:
    try:
        return yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError:
        return None


def _read_yaml(text: str) -> Any:
    try:
        return OmegaConf.to_container(OmegaConf.create(f"value: {text}"))["value"]  # pyright: ignore
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError, KeyError):
        return None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


_PARSER = OverridesParser.create()
