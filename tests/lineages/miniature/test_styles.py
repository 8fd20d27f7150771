"""Styles: as many as are promised, all different, each ends in a number that can be checked."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from divmon.lineages.miniature.problems import Problem, apply, draw_problem
from divmon.lineages.miniature.styles import STYLES, solve

SEEDS = st.integers(0, 2**32)


def final(text: str) -> int:
    body, _, number = text.rpartition("\n#### ")
    assert body and number.isdigit(), text
    return int(number)


@pytest.mark.parametrize("style", STYLES)
@given(seed=SEEDS)
def test_a_right_solution_ends_at_the_gold_and_a_wrong_one_does_not(style: str, seed: int) -> None:
    rng = random.Random(seed)
    problem = draw_problem(rng)
    assert final(solve(problem, style, rng)) == problem.answer
    assert final(solve(problem, style, rng, wrong=True)) != problem.answer


@pytest.mark.parametrize("style", STYLES)
@given(seed=SEEDS)
def test_every_equation_of_a_right_solution_is_true(style: str, seed: int) -> None:
    rng = random.Random(seed)
    text = solve(draw_problem(rng), style, rng)
    for left, op, right, result in re.findall(r"(\d+)([-+*/])(\d+)=(\d+)", text):
        if op == "/":
            assert int(left) == int(result) * int(right)
        else:
            assert apply(int(left), op, int(right)) == int(result)


@given(SEEDS)
def test_styles_are_pairwise_different(seed: int) -> None:
    problem = draw_problem(random.Random(seed))
    texts = {solve(problem, style, random.Random(seed)) for style in STYLES}
    assert len(texts) == len(STYLES) >= 8


def test_golden_solutions() -> None:
    question = "Mia finds 5 eggs, then 4 more, and loses 2. How many eggs are left?"
    problem = Problem(question, 7, "add_sub", (5, 4, 2), "eggs")
    shown = {style: solve(problem, style, random.Random(0)) for style in STYLES}
    assert shown["equations"] == "5+4=9\n9-2=7\n#### 7"
    assert shown["one_line"] == "(5+4)-2=7\n#### 7"
    assert shown["numbered"] == "Step 1: 5+4=9\nStep 2: 9-2=7\n#### 7"
    assert shown["table"] == "| 5+4 | 9 |\n| 9-2 | 7 |\n#### 7"
    assert shown["questions"] == "What is 5+4? It is 9.\nWhat is 9-2? It is 7.\n#### 7"
    assert re.fullmatch(r"First, 5 plus 4 \w+ 9\. Then, 9 minus 2 \w+ 7\.\n#### 7", shown["first_then"])
    assert re.fullmatch(r"5\+4=9 and 9-2=7\. .*: 7\+2=9\.\n#### 7", shown["checked"])
    assert re.fullmatch(r"It is 7 \w+ 9-2=7 \w+ 5\+4=9\.\n#### 7", shown["backwards"])
    assert re.fullmatch(r"Let (.)=5\+4, so \1=9\. Now \1-2=7\.\n#### 7", shown["algebra"])
    assert "eggs" in shown["story"]


def test_an_unknown_style_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no style named 'rhyme'; there are equations, one_line"):
        solve(draw_problem(random.Random(0)), "rhyme", random.Random(0))
