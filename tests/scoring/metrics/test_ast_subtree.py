from __future__ import annotations

import ast
import gc
import json
import warnings
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.metric_helpers import close, read

from divmon.scoring.metrics.ast_subtree import ast_subtree

PROGRAMS = ["x = 1", "x = a + b", "def f(a):\n    return a + 1", "for i in y:\n    print(i * 2)", "print(f(g(h(1))))"]
programs = st.lists(st.sampled_from(PROGRAMS), min_size=2, max_size=5)


def height(node: ast.AST) -> int:
    return 1 + max(map(height, ast.iter_child_nodes(node)), default=0)


def naive(programs: list[str]) -> tuple[float, float]:
    """By the definition, with plain recursion: mean pairwise distance and distinct share."""
    trees = [Counter(ast.dump(n) for n in ast.walk(ast.parse(p)) if height(n) == 4) for p in programs]
    pool = sum(trees, Counter())
    distances = [1 - (a & b).total() / (a | b).total() for a, b in combinations(trees, 2) if a | b]
    mean = sum(distances) / len(distances) if distances else torch.nan
    return mean, len(pool) / pool.total() if pool else torch.nan


def test_the_papers_values(shared: Path | None) -> None:
    groups, expected = [PROGRAMS, PROGRAMS[:3]], [naive(PROGRAMS), naive(PROGRAMS[:3])]
    if shared is not None:
        code = {row["task_id"]: row["code"] for row in read(shared / "data" / "probes" / "mbpp.jsonl", 10_000)}
        golden = json.loads((shared / "reference" / "golden_ast.json").read_text())["groups"]
        groups = [[code[i] for i in group["task_ids"]] for group in golden]
        expected = [(group["ast_pairwise"], group["ast_distinct"]) for group in golden]
    figures = ast_subtree(groups)  # type: ignore[arg-type]
    assert close(figures["ast_pairwise"], [pairwise for pairwise, _ in expected], 1e-9)
    assert close(figures["ast_distinct"], [distinct for _, distinct in expected], 1e-9)


@given(programs)
def test_it_is_the_definition_whatever_the_order(programs: list[str]) -> None:
    figures = ast_subtree([programs])
    for name, expected in zip(("ast_pairwise", "ast_distinct"), naive(programs), strict=True):
        assert close(figures[name], [expected], 1e-12)
        assert torch.allclose(figures[name], ast_subtree([programs[::-1]])[name], equal_nan=True)
        assert figures[name].isnan().item() or 0 <= figures[name].item() <= 1


def test_formatting_does_not_count_and_names_do() -> None:
    assert ast_subtree([["x=[a,b]", "x = [a, b]  # a list"]])["ast_pairwise"].item() == 0
    assert ast_subtree([["x=[a,b]", "y=[a,b]"]])["ast_pairwise"].item() == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = [1, a]", "x = [1.0, a]"),
        ("x = [1, a]", "x = [True, a]"),
        ("x = {**y, a: z}", "x = {a: y, **z}"),
        ("x = lambda a, /, b: 1", "x = lambda a, b: 1"),
        ("x = [a, b] + c", "x = [a, b] - c"),
    ],
)
def test_programs_that_look_alike_are_told_apart(one: str, other: str) -> None:
    assert ast_subtree([[one, other]])["ast_pairwise"].item() == naive([one, other])[0] > 0


@pytest.mark.parametrize("collects", [True, False])
def test_the_collector_is_left_as_it_was(collects: bool) -> None:
    before = gc.isenabled()
    try:
        gc.enable() if collects else gc.disable()
        ast_subtree([["x = [1, 2]", "x = (", "x = [1, 3]"]])
        assert gc.isenabled() == collects
    finally:
        gc.enable() if before else gc.disable()


def test_what_does_not_parse_or_is_wrong_is_left_out() -> None:
    texts: list[list[str | None]] = [["x = [1, 2]", "x = (", "x = [1, 3]", "x = [9]", None]]
    correct = torch.tensor([[True, True, True, False, False]])
    assert ast_subtree(texts, correct)["ast_pairwise"].item() == 1.0
    assert ast_subtree([["x = [1, 2]", "x = ("]])["ast_pairwise"].isnan().all()


def test_the_indented_body_of_a_function_parses() -> None:
    body = "    y = [a, 1]\n    return y"
    assert ast_subtree([[body, "y = [a, 1]\nreturn y"]])["ast_pairwise"].item() == 0


@pytest.mark.parametrize(
    "program", ["x = '\0'", "(" * 500, "-" * 100_000 + "1", "[" * 150 + "]" * 150, "\ud800", "x = 1\\"]
)
def test_no_program_brings_it_down(program: str) -> None:
    value = ast_subtree([[program, "x = [1, 2]", "x = [1, 2]"]])["ast_pairwise"].item()
    assert value in (0, pytest.approx(2 / 3))


def test_a_long_chain_of_operators_is_measured_without_recursion() -> None:
    chain = "x = " + " + ".join("a" for _ in range(800))
    assert ast_subtree([[chain, chain]])["ast_pairwise"].item() == 0


def test_programs_with_invalid_escapes_warn_nobody() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ast_subtree([[r"x = ['\d', 1]", r"x = ['\d', 1]"]])["ast_pairwise"].item() == 0
