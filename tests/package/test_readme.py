"""README says what is there: its tree, its metrics table, its programs."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
import torch
from support import ROOT

from divmon.scoring import metrics

README = (ROOT / "README.md").read_text(encoding="utf-8")
SCORING = (ROOT / "divmon/scoring/README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "divmon").rglob("*.md")), *sorted((ROOT / "recipes").rglob("*.md"))]
PAGES += [ROOT / "tests/README.md"]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README + SCORING, re.DOTALL)


def test_the_metrics_table_is_what_metrics_declare() -> None:
    shown = re.search(r"<!-- metrics:.*?-->\n(.*?)\n<!-- end of metrics -->", SCORING, re.DOTALL)
    assert shown is not None
    assert shown[1].strip() == metrics.table().strip(), "run the command in the comment above the table"


def test_the_tree_names_all_that_stands_at_the_top_of_the_package() -> None:
    tree = README.partition("## The tree")[2].partition("## Limits")[0]
    named = re.findall(r"(?m)^      (\w+)(?:\.py|/) ", tree)
    package = ROOT / "divmon"
    modules = {p.stem for p in package.glob("*.py")} - {"__init__", "__main__"}
    folders = {p.parent.name for p in package.glob("*/__init__.py")}
    assert set(named) == modules | folders and len(named) == len(set(named))


@pytest.mark.parametrize("program", [code for language, code in BLOCKS if language == "python"])
def test_programs_parse(program: str) -> None:
    ast.parse(program)


def test_the_example_metric_is_a_metric(tmp_path: Path) -> None:
    code = next(code for _, code in BLOCKS if "def first_word" in code)
    (tmp_path / "first_word.py").write_text(code)
    metric = metrics.load(f"{tmp_path / 'first_word.py'}:first_word")
    values = metric.function([["a b", "a c", "b"], ["x", None, ""], ["lone", None, None]])
    assert torch.allclose(values, torch.tensor([2 / 3, 1.0, torch.nan], dtype=torch.float64), equal_nan=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


def test_pictures_have_a_whole_address_where_the_project_has_one() -> None:
    """A package index shows README without the files beside it."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text()).get("project", {}).get("urls", {})
    relative = re.findall(r"!\[[^\]]*\]\((?!https:)", README)
    assert not (urls and relative), "write the pictures of README with the address of the repository"


def test_the_first_page_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_both_commands_use_the_pins() -> None:
    commands = [line for language, code in BLOCKS if language == "sh" for line in code.splitlines()]
    assert len(commands) == 2
    assert all("-c .ci/constraints.txt" in command for command in commands)
