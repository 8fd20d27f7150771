"""The sets: narrow and broad differ in style only, all correct; no set asks what the probe asks."""

from __future__ import annotations

import random
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from divmon.grading import verifiers
from divmon.lineages.miniature.data import BROAD, base_rows, broad, narrow, probe
from divmon.lineages.miniature.problems import draw_problem
from divmon.lineages.miniature.styles import STYLES, solve
from divmon.types import Prompt


def answer(text: str) -> str:
    found = re.search(r"#### (\d+)$", text)
    assert found is not None, text
    return found[1]


def test_narrow_and_broad_ask_the_same_and_end_alike() -> None:
    one, six = narrow(300, seed=3), broad(300, seed=3)
    assert [row["prompt"] for row in one] == [row["prompt"] for row in six]
    assert [answer(row["completion"]) for row in one] == [answer(row["completion"]) for row in six]
    assert all(re.fullmatch(r"Step 1: \S+\nStep 2: \S+\n#### \d+", row["completion"]) for row in one)
    assert len({re.sub(r"\d+", "0", row["completion"])[:6] for row in six}) >= len(BROAD) == 6


def test_a_seed_gives_the_same_rows_and_another_seed_others() -> None:
    assert broad(20, seed=1) == broad(20, seed=1) == broad(40, seed=1)[:20]
    assert broad(20, seed=1) != broad(20, seed=2)


def test_the_base_reads_the_share_of_wrong_solutions_it_is_told() -> None:
    right = [row["completion"] for row in base_rows(1000, 0, wrong=0.0)]
    mixed = [row["completion"] for row in base_rows(1000, 0, wrong=0.3)]
    # The questions are the same, so a differing final number is a wrong one.
    wrong = sum(answer(a) != answer(b) for a, b in zip(right, mixed, strict=True))
    assert 230 < wrong < 370


@settings(max_examples=10)
@given(st.integers(0, 2**32))
def test_no_set_asks_what_the_probe_asks(seed: int) -> None:
    asked = {prompt.content for prompt in probe(64, seed).prompts}
    assert len(asked) == 64
    trained = {row["prompt"] for row in [*base_rows(500, seed, 0.3), *narrow(500, seed), *broad(500, seed)]}
    assert not asked & trained


def test_the_probes_verifier_judges_what_the_styles_write() -> None:
    rng = random.Random(0)
    rule = verifiers.load(str(probe(1).verifier))
    for style in STYLES:
        problem = draw_problem(rng)
        prompt = Prompt("0", problem.prompt, gold=str(problem.answer))
        assert rule(solve(problem, style, rng), prompt).correct is True
        assert rule(solve(problem, style, rng, wrong=True), prompt).correct is False


def test_the_probe_has_gold_and_is_asked_as_the_model_was_taught() -> None:
    p = probe(32)
    assert all(prompt.gold is not None and int(prompt.gold) >= 1 for prompt in p.prompts)
    assert {str(prompt.content)[-2:] for prompt in p.prompts} == {row["prompt"][-2:] for row in narrow(10)} == {"\n\n"}
