"""Homogeneity: two runs that say the same overlap fully, whatever either keeps of its diversity."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from divmon.analysis.comparison.homogeneity import overlap
from divmon.types import Sample, Verdict


def side(prompts: list[list[str]], answers: bool = True) -> list[list[Sample]]:
    return [
        [
            Sample("t", str(p), k, text, "eos", 1, verdict=Verdict(True, "", text) if answers else None)
            for k, text in row
        ]
        for p, row in enumerate(map(list, map(enumerate, prompts)))
    ]


def test_closed_forms() -> None:
    same, other = [["4"] * 4] * 6, [["5"] * 4] * 6
    assert overlap(side(same), side(same)) == {"overlap": 1, "low": 1, "high": 1, "n": 6, "by_answer": 6}
    assert overlap(side(same), side(other))["overlap"] == 0
    # Half of one run's answers are the other's only answer: between 1/2, within 1/3 and 1.
    half = overlap(side([["4", "4", "5", "5"]] * 6), side(same))
    assert half["overlap"] == pytest.approx(2 * (1 / 2) / (1 / 3 + 1))
    assert math.isnan(overlap([], [])["overlap"]) and overlap(side([["4"]]), side([["4"]]))["n"] == 0


def test_without_final_answers_words_count() -> None:
    one, other = [["a b c d", "a b c d"]] * 5, [["A B e f", "a b e f"]] * 5
    found = overlap(side(one, answers=False), side(other, answers=False))
    assert found["overlap"] == pytest.approx(2 * (2 / 6) / 2) and found["by_answer"] == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), min_size=4, max_size=4), min_size=5, max_size=8))
def test_which_run_comes_first_and_what_answers_are_called_do_not_matter(prompts: list[list[str]]) -> None:
    one, other = [row[:2] for row in prompts], [row[2:] for row in prompts]
    found = overlap(side(one), side(other))
    renamed = [[[{"a": "x", "b": "y", "c": "z"}[a] for a in row] for row in run] for run in (other, one)]
    again = overlap(side(renamed[0]), side(renamed[1]))
    for name, value in found.items():
        assert again[name] == pytest.approx(value, nan_ok=True)
    assert math.isnan(found["overlap"]) or found["overlap"] >= 0
