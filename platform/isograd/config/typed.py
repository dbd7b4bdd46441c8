"""From plain values to a component's dataclass, each value of the type that its field declares."""

import copy
import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

from omegaconf import MISSING, OmegaConf

from isograd.config.written import is_text

# Components by type and values: OmegaConf takes milliseconds for each, and a sweep's configurations share most of them.
_SCHEMAS: dict[tuple[type, str], Any] = {}
_TYPED: dict[tuple[tuple[type, str], str], Any] = {}
_MOST_TYPED = 1024


def typed(default: Any, values: dict[str, Any]) -> Any:
    """Returns a component with these values, each of the type that its field declares.

    Args:
        default: The component as it is without them, a dataclass.
        values: By option.

    Raises:
        OmegaConfBaseException: A value cannot be made one of its type, or there is no such option.
    """
    had = dataclasses.asdict(default)
    try:
        schema, text = (type(default), json.dumps(had)), json.dumps(values)
    except TypeError:  # a value that no file holds: left for OmegaConf to judge
        return _merged(OmegaConf.structured(default), default, values)
    if (schema, text) not in _TYPED:
        if len(_TYPED) >= _MOST_TYPED:
            _TYPED.clear()
        if schema not in _SCHEMAS:
            _SCHEMAS[schema] = OmegaConf.structured(default)
        other = {name: value for name, value in values.items() if name not in had or not _same(had[name], value)}
        _TYPED[schema, text] = _merged(_SCHEMAS[schema], default, other)
    return copy.deepcopy(_TYPED[schema, text])


def _merged(schema: Any, default: Any, values: Mapping[str, Any]) -> Any:
    """Lets OmegaConf judge the values, but for texts, which need no judge and have no special meanings."""
    texts, others = _without_texts(default, {**_missing(dataclasses.asdict(default)), **values})
    made = OmegaConf.to_object(OmegaConf.merge(schema, others))
    for path, text in texts.items():
        *outer, last = path
        setattr(functools.reduce(getattr, outer, made), last, text)
    return made


def _missing(had: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the texts that a component has already which would mean to OmegaConf that they are not there."""
    inner = {name: _missing(value) for name, value in had.items() if isinstance(value, dict)}
    return {name: value for name, value in inner.items() if value} | {
        name: value for name, value in had.items() if value == MISSING
    }


def _without_texts(default: Any, values: Mapping[str, Any]) -> tuple[dict[tuple[str, ...], str], dict[str, Any]]:
    """Tells the texts of options that are texts, by their paths, from other values; there they are empty."""
    texts: dict[tuple[str, ...], str] = {}
    others: dict[str, Any] = {}
    for name, value in values.items():
        inner = getattr(default, name, None)
        if isinstance(value, Mapping) and dataclasses.is_dataclass(inner):
            found, others[name] = _without_texts(inner, value)
            texts |= {(name, *path): text for path, text in found.items()}
        elif isinstance(value, str) and is_text(default, name):
            texts[name,], others[name] = value, ""
        else:
            others[name] = value
    return texts, others


def _same(first: Any, second: Any) -> bool:
    return type(first) is type(second) and first == second
