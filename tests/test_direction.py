"""The direction of imports: metrics know nothing of ours, no plug-in knows another, torch waits until it is needed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import divmon

PACKAGE = Path(divmon.__file__).parent
FOLDERS = ("tasks", "samplers", "verifiers", "metrics", "loggers")
PLUGINS = [p for folder in FOLDERS for p in sorted((PACKAGE / folder).glob("*.py")) if not p.name.startswith("_")]


def imported(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it, with the names taken from them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", PLUGINS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_no_plug_in_imports_another(path: Path) -> None:
    siblings = {f"divmon.{p.parent.name}.{p.stem}" for p in PLUGINS if p != path}
    assert not imported(path) & siblings


@pytest.mark.parametrize("path", [p for p in PLUGINS if p.parent.name == "metrics"], ids=lambda p: p.name)
def test_a_metric_imports_nothing_of_ours(path: Path) -> None:
    assert not {name for name in imported(path) if name.split(".")[0] == "divmon"}


def test_the_nouns_import_nothing_of_ours() -> None:
    assert not {name for name in imported(PACKAGE / "types.py") if name.split(".")[0] == "divmon"}
