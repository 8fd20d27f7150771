"""Reads a YAML file with the line of each key, so that errors name file, line and key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Key = tuple[str | int, ...]
"""The path of a value in its file: ("stages", "sft", "args", "learning_rate")."""


class FileError(ValueError):
    """A file cannot be read, or a value in it is wrong; the message begins with file, line and key."""


@dataclass(frozen=True)
class File:
    """A YAML file and the line of each of its keys."""

    path: Path
    lines: dict[Key, int] = field(default_factory=dict)

    def error(self, key: Key, problem: str) -> FileError:
        """The error to raise: file, line, key and problem."""
        shorter = (key[:n] for n in range(len(key), 0, -1))
        line = next((self.lines[k] for k in shorter if k in self.lines), None)
        where = f"{self.path}:{line}" if line else str(self.path)
        return FileError(f"{where}: {dotted(key)}: {problem}" if key else f"{where}: {problem}")


class _Loader(yaml.SafeLoader):
    """YAML as people write it: 5e-5 is a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d[\d_]*(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(path: Path) -> tuple[File, dict[str, Any]]:
    """A YAML file with the line of each key, and as plain data.

    Raises:
        FileError: there is no such file, it is not a YAML mapping, or a key is given twice.
    """
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise FileError(f"{path}: expected 'key: value' lines")
        return File(path, dict(_lines(path, node, ()))), loader.construct_document(node)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from None
    except yaml.YAMLError as error:
        raise FileError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def _lines(path: Path, node: yaml.Node, key: Key) -> Iterator[tuple[Key, int]]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for name, value in node.value:
            line = name.start_mark.line + 1
            if name.value in seen:
                raise FileError(f"{path}:{line}: {dotted((*key, name.value))}: this key is given twice")
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
        ValueError: it is not valid YAML.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"not a valid YAML value: {' '.join(str(error).split())}") from None


def dotted(key: Key) -> str:
    """("stages", "sft", "args") as people write it: sft.args."""
    shown = key[1:] if key[:1] == ("stages",) and len(key) > 1 else key
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in shown).lstrip(".")
