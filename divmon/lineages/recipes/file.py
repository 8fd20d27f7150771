"""A YAML file with the line of each key, and dataclasses built from it: errors name file, line and key."""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

Key = tuple[str | int, ...]
"""Where a value stands: ("stages", "sft", "args", "learning_rate")."""


class RecipeError(ValueError):
    """A recipe cannot be read or run; the message begins with file, line and key."""


@dataclass(frozen=True)
class File:
    """A YAML file and the line of each of its keys."""

    path: Path
    lines: dict[Key, int] = field(default_factory=dict)

    def error(self, key: Key, problem: str) -> RecipeError:
        """What to raise: file, line, key and problem."""
        shorter = (key[:n] for n in range(len(key), 0, -1))
        line = next((self.lines[k] for k in shorter if k in self.lines), None)
        where = f"{self.path}:{line}" if line else str(self.path)
        return RecipeError(f"{where}: {dotted(key)}: {problem}" if key else f"{where}: {problem}")


class _Loader(yaml.SafeLoader):
    """YAML as people write it: 5e-5 is a number, and a key that stands twice is an error."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d[\d_]*(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(path: Path) -> tuple[File, dict[str, Any]]:
    """A YAML file with the line of each key, and as plain data.

    Raises:
        RecipeError: there is no such file, or it is no YAML mapping.
    """
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise RecipeError(f"{path}: expected 'key: value' lines")
        return File(path, dict(_lines(path, node, ()))), loader.construct_document(node)
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror or error}") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from None


def _lines(path: Path, node: yaml.Node, key: Key) -> Iterator[tuple[Key, int]]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for name, value in node.value:
            line = name.start_mark.line + 1
            if name.value in seen:
                raise RecipeError(f"{path}:{line}: {dotted((*key, name.value))}: stands here a second time")
            seen.add(name.value)
            yield (*key, name.value), line
            yield from _lines(path, value, (*key, name.value))
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield (*key, i), value.start_mark.line + 1
            yield from _lines(path, value, (*key, i))


def read_value(text: str) -> Any:
    """A YAML value from the command line.

    Raises:
        ValueError: it is none.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"no valid YAML value: {' '.join(str(error).split())}") from None


def dotted(key: Key) -> str:
    """("stages", "sft", "args") as people write it: sft.args."""
    shown = key[1:] if key[:1] == ("stages",) and len(key) > 1 else key
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in shown).lstrip(".")


_T = TypeVar("_T")


def build(cls: type[_T], block: Any, file: File, key: Key, given: dict[str, Any]) -> _T:
    """A dataclass of a mapping, each value checked against its field's type; `given` is not read from the file."""
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
    """The value as the type wants it."""
    if dataclasses.is_dataclass(hint):
        return build(hint, value, file, key, {})  # type: ignore[arg-type]
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is list and dataclasses.is_dataclass(inner[0]) and isinstance(value, list):
        return [_fit(inner[0], item, file, (*key, i)) for i, item in enumerate(value)]
    if not fits(hint, value):
        raise file.error(key, f"expected {wanted(hint)}, got {value!r}")
    return value


def fits(hint: Any, value: Any) -> bool:
    """Whether a value from YAML is of this type; a whole number is also a real one, a boolean is no number."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin is Literal:
        return value in inner
    if origin in (typing.Union, types.UnionType):
        return any(fits(part, value) for part in inner)
    if origin is list:
        return isinstance(value, list) and all(fits(inner[0], item) for item in value)
    if origin is dict or hint is dict:
        return isinstance(value, dict)
    if hint in (int, float):
        return isinstance(value, (int,) if hint is int else (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint if isinstance(hint, type) else object)


def wanted(hint: Any) -> str:
    """A type in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", types.NoneType: "null"}
    if origin is Literal:
        return "one of " + ", ".join(map(str, inner))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(wanted(part) for part in inner)
    if origin is list:
        return f"a list of ({wanted(inner[0])})"
    return "a mapping" if origin is dict or hint is dict else words.get(hint, getattr(hint, "__name__", str(hint)))


def closest(name: str, known: typing.Iterable[str]) -> str:
    """ "; did you mean 'x'?", or what there is."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(sorted(names))}"
