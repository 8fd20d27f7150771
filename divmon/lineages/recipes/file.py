"""Dataclasses from a YAML file, each value checked against its field's type."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, TypeVar

from divmon.options import closest, fits, in_words
from divmon.training.yaml_file import File, FileError, Key

RecipeError = FileError
"""A recipe cannot be read or run; the message begins with file, line and key."""

_T = TypeVar("_T")


def build(cls: type[_T], block: Any, file: File, key: Key, given: dict[str, Any]) -> _T:
    """A dataclass from a mapping, each value checked against its field's type; `given` is not from the file."""
    if not isinstance(block, dict):
        raise file.error(key, f"expected a mapping, got {block!r}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.name not in given}  # type: ignore[arg-type]
    values = {}
    for name, value in block.items():
        if name not in fields:
            raise file.error((*key, name), f"no such key{closest(name, fields)}")
        values[name] = _fit(hints[name], value, file, (*key, name))
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise file.error(key, f"the key `{name}` is missing")
    return cls(**values, **given)


def _fit(hint: Any, value: Any, file: File, key: Key) -> Any:
    if dataclasses.is_dataclass(hint):
        return build(hint, value, file, key, {})  # type: ignore[arg-type]
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is list and dataclasses.is_dataclass(inner[0]) and isinstance(value, list):
        return [_fit(inner[0], item, file, (*key, i)) for i, item in enumerate(value)]
    if not fits(hint, value):
        raise file.error(key, f"expected {in_words(hint)}, got {value!r}")
    return value
