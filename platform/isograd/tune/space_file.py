"""Search spaces as YAML: composed by Hydra, changed by a command line, with the line of what is wrong.

The format is described in ``search_spaces/README.md``.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from isograd.config.items import as_typed, split
from isograd.config.load import groups
from isograd.config.written import as_declared, declared, from_command_line, written_in, written_key
from isograd.errors import SpaceError
from isograd.registry import closest, suggestion
from isograd.system.paths import user_path
from isograd.tune.parameters import COMMAND_LINE, KEYS, NO_PARAMETERS, build_space, find_owners, iterate_entries
from isograd.tune.space import SearchSpace, Settings

SPACES = (Path(__file__).parents[1] / "search_spaces").resolve()

_OPTIONS, _PARAMETERS = _SECTIONS = ("options", "parameters")
_SELF = "_self_"  # a file's own place among its defaults


@dataclass(frozen=True)
class Lines:
    """Where each entry of a composed space was written, by its path; of what is not here, only the file is known."""

    file: str
    places: Mapping[tuple[str, ...], str] = field(default_factory=dict)

    def at(self, *path: str) -> str:
        """Returns the place as ``file.yaml:12``."""
        prefixes = (path[:length] for length in range(len(path), 0, -1))
        return next((self.places[prefix] for prefix in prefixes if prefix in self.places), self.file)


@dataclass(frozen=True)
class SpaceFile:
    """A search space as it was written.

    Attributes:
        name: Of the file, without its ending.
        options: Of every run, before those of the command line.
        space: The parameters.
        tree: The whole, composed: what a study keeps.
        lines: Where it was written.
    """

    name: str
    options: Settings
    space: SearchSpace
    tree: Mapping[str, Any]
    lines: Lines

    def place(self, parameter: str, *keys: str) -> str:
        """Returns where a parameter, or a key of it, was written."""
        return self.lines.at(_PARAMETERS, *parameter.split("."), *keys)


def known_spaces() -> list[str]:
    """Returns the names of the spaces that come with isograd."""
    return sorted(path.stem for path in SPACES.glob("*.yaml"))


def load_space(name: str, overrides: Sequence[str] = ()) -> SpaceFile:
    """Loads a space by its name, or by the path of a YAML file of one's own.

    Args:
        name: One of :func:`known_spaces`, or a path that ends in ``.yaml``; its ``defaults`` find both.
        overrides: Of the space: ``method.decay.high=0.99``, ``~method.widen``, ``+method.lag.distribution=int``.

    Raises:
        SpaceError: What is wrong, with file and line.
    """
    path = _find_file(name)
    tree, written = _compose(path, overrides)
    lines = Lines(path.name, dict(_places(path, overrides)))
    for key in tree:
        if key not in _SECTIONS:
            raise SpaceError(
                f"{lines.at(key)}: '{key}' is no part of a search space.{suggestion(key, list(_SECTIONS))}",
                "It would be ignored",
                f"Use {' and '.join(_SECTIONS)}, at the top.",
            )
    for key in _SECTIONS:
        if not isinstance(tree.get(key) or {}, Mapping):
            raise SpaceError(
                f"{lines.at(key)}: {key}={tree[key]} is no section",
                "It maps names of options to what they are",
                f"Use {key}: {{OPTION: ...}}.",
            )
    if not tree.get(_PARAMETERS):
        what, why, mend = NO_PARAMETERS
        raise SpaceError(f"{path.name}: {what}", why, mend)
    if isinstance(tree.get(_OPTIONS), Mapping):
        tree[_OPTIONS] = _restore_settings(tree[_OPTIONS], written.get(_OPTIONS))
    tree[_PARAMETERS] = _restore_parameters(tree[_PARAMETERS], written.get(_PARAMETERS))
    space = build_space(tree[_PARAMETERS], lines)
    return SpaceFile(path.stem, dict(tree.get(_OPTIONS) or {}), space, tree, lines)


def _find_file(name: str) -> Path:
    path = user_path(name) if name.endswith((".yaml", ".yml")) else SPACES / f"{name}.yaml"
    if path.is_file():
        return path.absolute()
    known = known_spaces()
    raise SpaceError(
        f"there is no search space '{name}'.{suggestion(name, known)}",
        f"It is the name of one that comes with isograd ({', '.join(known)}), or the path of a YAML file",
        f"Use isograd tune {known[0] if known else 'PATH.yaml'}, or the file's path with its ending.",
    )


def _compose(path: Path, overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns a space, and the same with every scalar as it was written."""
    # Between quotes, since Hydra's grammar takes few characters of a path otherwise.
    search = [f"hydra.searchpath=['file://{str(SPACES).replace(chr(39), chr(92) + chr(39))}']"]
    try:
        with initialize_config_dir(version_base=None, config_dir=str(path.parent)):
            space = compose(config_name=path.name, overrides=search if path.parent != SPACES else [])
        written = functools.reduce(_merge, (written_in(file) or {} for file, _ in _documents(path)), {})
        if not isinstance(written, dict):
            raise ValueError("it is no mapping")
        written.pop("defaults", None)
        OmegaConf.set_struct(space, False)
        for override in overrides:
            _change(space, written, override)
        return OmegaConf.to_container(space, resolve=True), written  # pyright: ignore[reportReturnType]
    except RecursionError as error:
        raise SpaceError(
            f"{path.name} has defaults that lead back to itself",
            "A name among the defaults is a file beside it, before it is a space that comes with isograd",
            f"Use another name for the file than {path.name}, or other defaults.",
        ) from error
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, OSError) as error:
        raise SpaceError(
            f"{path.name} cannot be composed: {_shorten(error)}",
            "A space is YAML that Hydra composes: its defaults, itself, and what the command line changes",
            "Use the format of search_spaces/README.md, and space.NAME.KEY=VALUE for parameters that are there.",
        ) from error


def _merge(first: Any, second: Any) -> Any:
    """Lays one tree over another one, as Hydra does: mappings key by key, and all else as a whole."""
    if not (isinstance(first, Mapping) and isinstance(second, Mapping)):
        return second
    return {**first, **{key: _merge(first.get(key), value) for key, value in second.items()}}


def _shorten(error: Exception) -> str:
    """Returns what Hydra says, with the names that a command line has for the parameters."""
    causes = [error] if error.__cause__ is None else [error, error.__cause__]
    lines = dict.fromkeys(line.strip(" .") for cause in causes for line in str(cause).splitlines()[:3] if line.strip())
    telling = [line for line in lines if not line.startswith(("full_key", "object_type", "reference_type"))]
    return "; ".join(telling).replace("parameters.", "space.")


def _places(path: Path, overrides: Sequence[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yields where entries stand, those of a file before those of the next one, which win."""
    for file, document in _documents(path):
        yield from _lines_of(file, (), document)
    for override in overrides:  # what the command line sets stands in no file
        name = override.lstrip("+~").partition("=")[0]
        yield (_PARAMETERS, *name.split(".")), COMMAND_LINE


def _documents(path: Path) -> Iterator[tuple[Path, yaml.Node | None]]:
    """Yields the files of a space, in the order in which they are composed: what comes later wins."""
    document = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    entries = document.value if isinstance(document, yaml.MappingNode) else []
    lists = [value.value for key, value in entries if key.value == "defaults" and isinstance(value, yaml.SequenceNode)]
    defaults = [item.value for items in lists for item in items if isinstance(item, yaml.ScalarNode)]
    for default in defaults if _SELF in defaults else [*defaults, _SELF]:
        candidates = (folder / f"{default}.yaml" for folder in (path.parent, SPACES))
        base = path if default == _SELF else next((file for file in candidates if file.is_file()), None)
        if base == path:
            yield path, document
        elif base is not None:
            yield from _documents(base)


def _lines_of(file: Path, path: tuple[str, ...], node: yaml.Node | None) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            yield inner, f"{file.name}:{key.start_mark.line + 1}"
            yield from _lines_of(file, inner, value)


def _change(space: DictConfig, written: dict[str, Any], override: str) -> None:
    """Changes a composed space, and the same with its scalars as they were written, as an item of a command line says:
    ``NAME.KEY=VALUE``, ``+NAME.KEY=VALUE`` for a new one, or ``~NAME``.

    Raises:
        SpaceError: There is no such entry.
        ConfigError: There is no value, or it cannot be read.
    """
    sign = override[: len(override) - len(override.lstrip("+~"))]
    name, _, text = override[len(sign) :].partition("=")
    known = {
        ".".join(path): spec for path, spec in iterate_entries(space.get(_PARAMETERS)) if isinstance(spec, Mapping)
    }
    if "~" not in sign:
        keys = [f"space.{parameter}.{key}" for parameter, spec in known.items() for key in spec]
        split(f"space.{override[len(sign) :]}", names=lambda: keys)
    *outer, last = path = (_PARAMETERS, *name.split("."))
    inner = _select(space, outer)
    if not sign.startswith("+") and not (isinstance(inner, Mapping) and last in inner):
        raise _missing(known, name, None if sign else text)
    if "~" in sign:
        for tree in (_select(space, outer), _select(written, outer)):
            tree.pop(last, None)
        return
    value = from_command_line(f"space.{name}", list[Any], text)
    OmegaConf.update(space, ".".join(path), value, merge=True, force_add=True)
    for key in outer:
        written = written.setdefault(key, {}) if isinstance(written.get(key, {}), dict) else {}
    try:
        written[last] = yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError:
        written[last] = None


def _select(tree: Any, path: Sequence[str]) -> Any:
    for key in path:
        tree = tree.get(key, {}) if isinstance(tree, Mapping) else {}
    return tree


def _missing(known: Mapping[str, Any], name: str, text: str | None) -> SpaceError:
    """Says what is there instead of an entry; ``text``: what it was to be, None where it was to be taken away."""
    parameter = next((other for other in known if name.startswith(f"{other}.")), None)
    near, _, key = name.rpartition(".")
    near = closest(near, known) if near and parameter is None else parameter
    if text is None:
        whole = closest(name, known)
        mend = f"Use ~space.{whole}, or leave ~space.{name} out." if whole else f"Leave ~space.{name} out."
    elif parameter is not None:
        allowed = ("when", *KEYS.get(str(known[parameter]["distribution"]), ()))
        like = closest(name.removeprefix(f"{parameter}."), allowed)
        sign = "" if like in known[parameter] else "+"
        entry = as_typed(f"{sign}space.{parameter}.{like}", text)
        mend = f"Use {entry}." if like else f"Use one of its keys: {', '.join(allowed)}."
    elif near is not None and key in known[near]:
        mend = f"Use {as_typed(f'space.{near}.{key}', text)}."
    elif find_owners(name) and text.startswith("{"):
        mend = f"Use {as_typed(f'+space.{name}', text)} to add it."
    else:
        mend = (
            "Use one of these, with its keys as `isograd tune SPACE --config` shows them, or to add one "
            "+space.OPTION={distribution: float, low: LOW, high: HIGH} with an option of the run."
        )
    return SpaceError(
        f"space.{name} is not there, so it cannot be {'taken away' if text is None else 'changed'}",
        f"The space has the parameters {', '.join(known)}",
        mend,
    )


def _restore_parameters(tree: Mapping[str, Any], written: Any) -> dict[str, Any]:
    """Returns parameters with the texts that their files hold: of options that are texts, and of labels."""
    entries = [(".".join(path), spec) for path, spec in iterate_entries(tree) if isinstance(spec, Mapping)]
    labelled = {name for name, spec in entries if isinstance(spec.get("values"), Mapping)}

    def restore(path: tuple[str, ...], inner: Any, texts: Any) -> Any:
        if not isinstance(inner, Mapping):
            return inner
        if "distribution" in inner:
            return _restore_parameter(".".join(path), inner, texts, labelled)
        return {key: restore((*path, str(key)), value, _text_of(texts, key)) for key, value in inner.items()}

    return restore((), tree, written)


def _restore_parameter(name: str, spec: Mapping[str, Any], written: Any, labelled: set[str]) -> dict[str, Any]:
    restored = dict(spec)
    values, texts = spec.get("values"), _text_of(written, "values")
    if isinstance(values, list):
        restored["values"] = [_restore(name, *pair) for pair in _pair(values, texts)]
    elif isinstance(values, Mapping):
        restored["values"] = {
            _key(texts, label): _restore_settings(options, _text_of(texts, label)) for label, options in values.items()
        }
    when, texts = spec.get("when"), _text_of(written, "when")
    if isinstance(when, Mapping):
        restored["when"] = {
            _key(texts, key): _restore_condition(str(key), value, _text_of(texts, key), labelled)
            for key, value in when.items()
        }
    return restored


def _restore_condition(name: str, value: Any, written: Any, labelled: set[str]) -> Any:
    if isinstance(value, list):
        return [_restore_condition(name, *pair, labelled) for pair in _pair(value, written)]
    if name not in labelled:
        return _restore(name, value, written)
    return written if isinstance(written, str) else str(value)


def _restore_settings(options: Any, written: Any) -> Any:
    if not isinstance(options, Mapping):
        return options
    return {str(name): _restore(str(name), value, _text_of(written, name)) for name, value in options.items()}


def _restore(option: str, value: Any, written: Any) -> Any:
    """Returns an option's value, exactly as it was written where any choice that has the option declares a text.

    Raises:
        ConfigError: A text holds an interpolation.
    """
    known = groups()
    if option in known:
        return written if isinstance(written, str) and value is not None else value
    section, _, name = option.partition(".")
    for owner in find_owners(option):
        declaration = declared(owner, name or option, known.get(section, {}))
        made = value if declaration is None else as_declared(option, declaration.hint, value, written)
        if made is not value and made != value:
            return made
    return value


def _text_of(written: Any, key: Any) -> Any:
    return written.get(written_key(written, key)) if isinstance(written, Mapping) else None


def _key(written: Any, key: Any) -> str:
    return written_key(written, key) if isinstance(written, Mapping) else str(key)


def _pair(values: list[Any], written: Any) -> Iterator[tuple[Any, Any]]:
    is_known = isinstance(written, list) and len(written) == len(values)
    return zip(values, written if is_known else [None] * len(values), strict=True)
