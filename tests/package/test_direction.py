"""The direction of imports: the folders are the stages of the data's way, and a stage knows only those below it."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import divmon

PACKAGE = Path(divmon.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

KNOWS: dict[str, set[str]] = {
    "types": set(),
    "options": set(),
    "undisturbed": set(),
    "storage": {"types"},
    "loggers": {"types"},
    "prompts": {"types"},
    "grading": {"types", "options"},
    "sampling": {"types", "undisturbed", "storage", "prompts"},
    "scoring": {"types", "options", "undisturbed", "storage", "grading"},
    "pipeline": {"types", "sampling", "scoring"},
    "training": {
        "types",
        "options",
        "undisturbed",
        "storage",
        "loggers",
        "prompts",
        "grading",
        "sampling",
        "scoring",
        "pipeline",
    },
    "monitor": {"types", "undisturbed", "storage", "loggers", "sampling", "scoring", "pipeline", "training"},
    "callback": {"loggers", "scoring", "training"},
    "analysis": {"types", "storage", "loggers", "prompts", "grading", "sampling", "scoring", "pipeline"},
    "lineages": {
        *(
            "types",
            "options",
            "undisturbed",
            "storage",
            "loggers",
            "prompts",
            "sampling",
            "scoring",
            "training",
            "monitor",
        ),
        *("callback", "analysis"),
    },
    "cli": {
        *(
            "types",
            "options",
            "storage",
            "loggers",
            "prompts",
            "grading",
            "scoring",
            "training",
            "monitor",
            "callback",
            "analysis",
        ),
        "lineages",
    },
}
"""What stands at the top of divmon/, in the order of the data's way, and what each may import. The package itself (its
version, its lazy names) and `python -m divmon` stand outside of the order."""

PLUGINS = [
    path
    for folder in ("prompts/tasks", "sampling/engines", "grading/verifiers", "scoring/metrics", "loggers")
    for path in sorted((PACKAGE / folder).glob("*.py"))
    if re.search(rf"(?m)^(def|class) {path.stem}\b", path.read_text(encoding="utf-8"))
]
"""Files that define a function or class of their name; what they share stands beside them."""
SHARED = {
    *(
        f"divmon.scoring.metrics{name}"
        for name in ("", ".Figure", ".metric", ".words", ".effective_number", ".entropy")
    ),
    *(f"divmon.scoring.embedding_geometry{name}" for name in ("", ".vendi_order1", ".without")),
}
"""What a metric may import of ours: what declares it, and arithmetic that several share."""
FOLDERS_AT_MOST, MODULES_AT_MOST, FLOORS_AT_MOST = 10, 8, 5


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


@cache
def modules() -> frozenset[str]:
    return frozenset(map(module_of, FILES))


@cache
def imported(path: Path) -> frozenset[str]:
    """The modules that a file imports, anywhere in it, with the names taken from them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def ours(path: Path) -> set[str]:
    """Of what it imports, the modules of this package, each as exactly as it is named."""
    named = imported(path) & modules()
    packages = {name for name in named if any(other.startswith(f"{name}.") for other in named)}
    return named - packages - {module_of(path), "divmon"}


def room(module: str) -> str:
    return module.split(".")[1]


def test_the_top_is_one_screen() -> None:
    there = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert there == {*KNOWS, "__init__", "__main__"}
    folders = [path for path in PACKAGE.iterdir() if (path / "__init__.py").exists()]
    assert len(folders) <= FOLDERS_AT_MOST
    assert len(list(PACKAGE.glob("*.py"))) <= MODULES_AT_MOST


@pytest.mark.parametrize("name", KNOWS)
def test_a_stage_knows_only_those_below_it(name: str) -> None:
    files = [path for path in FILES if module_of(path).split(".")[1:2] == [name]]
    assert files
    for path in files:
        assert {room(module) for module in ours(path)} - {name} <= KNOWS[name], path


def test_the_order_has_no_way_up_and_few_floors() -> None:
    order = list(KNOWS)
    for name, known in KNOWS.items():
        assert all(order.index(other) < order.index(name) for other in known), name

    @cache
    def floor(name: str) -> int:
        below = max((floor(other) for other in KNOWS[name]), default=0)
        return below + (PACKAGE / name).is_dir()

    assert max(map(floor, KNOWS)) <= FLOORS_AT_MOST


def test_no_file_comes_back_to_itself() -> None:
    """Circles between files, imports inside functions and for type checkers included."""
    arrows = {module_of(path): ours(path) for path in FILES}
    done: set[str] = set()

    def walk(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way[way.index(module) :], module))
        if module not in done:
            for other in arrows[module]:
                walk(other, (*way, module))
            done.add(module)

    for module in arrows:
        walk(module, ())


@pytest.mark.parametrize("path", PLUGINS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_no_plug_in_imports_another(path: Path) -> None:
    siblings = {module_of(p) for p in PLUGINS if p.parent == path.parent and p != path}
    assert not imported(path) & siblings


@pytest.mark.parametrize("path", [p for p in PLUGINS if p.parent.name == "metrics"], ids=lambda p: p.name)
def test_a_metric_imports_nothing_of_ours_but_what_declares_it(path: Path) -> None:
    assert {name for name in imported(path) if name.split(".")[0] == "divmon"} <= SHARED
