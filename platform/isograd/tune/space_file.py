"""Search spaces as YAML: composed by Hydra, checked when loaded, with the line of what is wrong.

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
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from isograd.config.written import written_in
from isograd.errors import SpaceError
from isograd.registry import suggestion
from isograd.system.paths import user_path
from isograd.tune.distributions import Settings
from isograd.tune.parameters import COMMAND_LINE, parameters
from isograd.tune.space import SearchSpace
from isograd.tune.space_text import as_written, change

SPACES = (Path(__file__).parents[1] / "search_spaces").resolve()

_SECTIONS = ("options", "parameters")
_SELF = "_self_"  # a file's own place among its defaults


@dataclass(frozen=True)
class Lines:
    """Where each entry of a composed space was written, by its path; of what is not here, only the file is known."""

    file: str
    places: Mapping[tuple[str, ...], str] = field(default_factory=dict)

    def at(self, *path: str) -> str:
        """Returns the place as ``file.yaml:12``."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return self.file


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
    path = _find(name)
    tree, written = _composed(path, overrides)
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
    if not tree.get("parameters"):
        raise SpaceError(
            f"{path.name}: the search space has 0 parameters",
            "There would be nothing to search",
            "Use section `parameters`, with a distribution for each, as search_spaces/README.md shows.",
        )
    tree = as_written(tree, written)
    space = parameters(tree.get("parameters") or {}, lines)
    return SpaceFile(path.stem, dict(tree.get("options") or {}), space, tree, lines)


def _find(name: str) -> Path:
    path = user_path(name) if name.endswith((".yaml", ".yml")) else SPACES / f"{name}.yaml"
    if path.is_file():
        return path.absolute()
    known = known_spaces()
    raise SpaceError(
        f"there is no search space '{name}'.{suggestion(name, known)}",
        f"It is the name of one that comes with isograd ({', '.join(known)}), or the path of a YAML file",
        f"Use isograd tune {known[0] if known else 'PATH.yaml'}, or the file's path with its ending.",
    )


def _composed(path: Path, overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns a space, and the same with every scalar as it was written."""
    # Between quotes, since Hydra's grammar takes few characters of a path otherwise.
    search = [f"hydra.searchpath=['file://{str(SPACES).replace(chr(39), chr(92) + chr(39))}']"]
    try:
        with initialize_config_dir(version_base=None, config_dir=str(path.parent)):
            found = compose(config_name=path.name, overrides=search if path.parent != SPACES else [])
        written = functools.reduce(_merged, (written_in(file) or {} for file in _files(path)), {})
        if not isinstance(written, dict):
            raise ValueError("it is no mapping")
        written.pop("defaults", None)
        OmegaConf.set_struct(found, False)
        for override in overrides:
            change(found, written, override)
        return OmegaConf.to_container(found, resolve=True), written  # pyright: ignore[reportReturnType]
    except RecursionError as error:
        raise SpaceError(
            f"{path.name} has defaults that lead back to itself",
            "A name among the defaults is a file beside it, before it is a space that comes with isograd",
            f"Use another name for the file than {path.name}, or other defaults.",
        ) from error
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, OSError) as error:
        raise SpaceError(
            f"{path.name} cannot be composed: {_brief(error)}",
            "A space is YAML that Hydra composes: its defaults, itself, and what the command line changes",
            "Use the format of search_spaces/README.md, and space.NAME.KEY=VALUE for parameters that are there.",
        ) from error


def _merged(first: Any, second: Any) -> Any:
    """Lays one tree over another one, as Hydra does: mappings key by key, and all else as a whole."""
    if not (isinstance(first, Mapping) and isinstance(second, Mapping)):
        return second
    return {**first, **{key: _merged(first.get(key), value) for key, value in second.items()}}


def _brief(error: Exception) -> str:
    """What Hydra says, with the names that a command line has for the parameters."""
    causes = [error] if error.__cause__ is None else [error, error.__cause__]
    lines = [line.strip(" .") for cause in causes for line in str(cause).splitlines()[:3] if line.strip()]
    said = [line for line in dict.fromkeys(lines) if not line.startswith(("full_key", "object_type", "reference_type"))]
    return "; ".join(said).replace("parameters.", "space.")


def _places(path: Path, overrides: Sequence[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yields where entries stand, those of a file before those of the next one, which win."""
    for file in _files(path):
        document = _document(file)
        if document is not None:
            yield from _of_node(file, (), document)
    for override in overrides:  # what the command line sets stands in no file
        name = override.lstrip("+~").partition("=")[0]
        yield ("parameters", *name.split(".")), COMMAND_LINE


def _files(path: Path) -> Iterator[Path]:
    """Yields the files of a space, in the order in which they are composed: what comes later wins."""
    document = _document(path)
    defaults = [] if document is None else list(_defaults(document))
    for default in defaults if _SELF in defaults else [*defaults, _SELF]:
        candidates = (folder / f"{default}.yaml" for folder in (path.parent, SPACES))
        base = path if default == _SELF else next((file for file in candidates if file.is_file()), None)
        if base == path:
            yield path
        elif base is not None:
            yield from _files(base)


def _document(path: Path) -> yaml.MappingNode | None:
    found = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    return found if isinstance(found, yaml.MappingNode) else None


def _defaults(document: yaml.MappingNode) -> Iterator[str]:
    for key, value in document.value:
        if key.value == "defaults" and isinstance(value, yaml.SequenceNode):
            yield from (item.value for item in value.value if isinstance(item, yaml.ScalarNode))


def _of_node(path: Path, at: tuple[str, ...], node: yaml.Node) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*at, str(key.value))
            yield inner, f"{path.name}:{key.start_mark.line + 1}"
            yield from _of_node(path, inner, value)
