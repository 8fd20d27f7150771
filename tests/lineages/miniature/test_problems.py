"""Problems: the gold agrees with an independent reading of the question, and wrong working is wrong."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from divmon.lineages.miniature.problems import (
    LARGEST,
    MISTAKES,
    OPERATIONS,
    WORDINGS,
    Problem,
    apply,
    draw_problem,
    work,
)

SEEDS = st.integers(0, 2**32)


def read_and_solve(question: str) -> int:
    """The answer from the words of the question alone."""
    a, b, c = map(int, re.findall(r"\d+", question))
    lost = [bool(re.search(r"loses|lost|gives away", words)) for words in re.split(r"\d+", question)[:3]]
    if re.search(r"boys and|red and", question):
        return (a + b) * c
    if re.search(r"boxes of|bags with", question):
        return a * b - c if lost[2] else a * b + c
    return a + (-b if lost[1] else b) + (-c if lost[2] else c)


@given(SEEDS, st.booleans())
def test_the_gold_is_what_the_words_say(seed: int, held_out: bool) -> None:
    problem = draw_problem(random.Random(seed), held_out=held_out)
    assert read_and_solve(problem.question) == problem.answer >= 1
    assert all(2 <= number <= LARGEST for number in problem.numbers)


@given(SEEDS)
def test_right_working_is_true_and_ends_at_the_gold(seed: int) -> None:
    problem = draw_problem(random.Random(seed))
    steps = work(problem)
    assert len(steps) == 2
    assert all(apply(step.left, step.op, step.right) == step.result for step in steps)
    assert steps[0].result == steps[1].left
    assert steps[-1].result == problem.answer


@pytest.mark.parametrize("mistake", MISTAKES)
@given(seed=SEEDS)
def test_a_mistake_is_made_once_and_the_working_goes_on_from_it(mistake: str, seed: int) -> None:
    problem = draw_problem(random.Random(seed))
    steps, right = work(problem, mistake, random.Random(seed)), work(problem)
    false = [step for step in steps if apply(step.left, step.op, step.right) != step.result]
    assert len(false) == (mistake == "slip")
    assert steps != right
    if mistake == "stop":
        assert steps == right[:1]
    else:
        assert steps[0].result == steps[1].left
        assert steps[0].left == right[0].left
    if mistake == "operation":
        assert sum(step.op != true.op for step, true in zip(steps, right, strict=True)) == 1
    if mistake == "misread":
        assert sum(step.right != true.right for step, true in zip(steps, right, strict=True)) == 1


def test_a_seed_gives_the_same_problems_and_the_global_generator_is_left_alone() -> None:
    random.seed(1)
    before = random.getstate()
    first = [draw_problem(random.Random(5)) for _ in range(3)]
    assert first == [draw_problem(random.Random(5)) for _ in range(3)]
    assert random.getstate() == before


def test_a_tenth_of_the_questions_is_held_out_and_none_is_on_both_sides() -> None:
    rng = random.Random(0)
    train = {draw_problem(rng).question for _ in range(3000)}
    held_out = {draw_problem(rng, held_out=True).question for _ in range(1000)}
    assert not train & held_out


def test_every_kind_and_wording_is_asked() -> None:
    rng = random.Random(0)
    drawn = [draw_problem(rng) for _ in range(1000)]
    assert {problem.kind for problem in drawn} == set(OPERATIONS) == set(WORDINGS)
    assert sum(map(len, WORDINGS.values())) == len({skeleton(problem) for problem in drawn})


def skeleton(problem: Problem) -> str:
    words = re.sub(r"\d+|" + problem.things, "_", problem.question)
    return re.sub(r"\b[A-Z]\w+", lambda m: m[0] if m[0] == "How" else "N", words)
