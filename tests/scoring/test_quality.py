"""Quality figures: every closed form against enumeration of all subsets."""

from __future__ import annotations

import math
import time
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from divmon.scoring.pass_crossing import pass_crossing
from divmon.scoring.quality import majority_at, pass_at, quality, scores

samples = st.lists(
    st.tuples(st.sampled_from([True, False, None]), st.sampled_from(["a", "b", "c", "d", None])), max_size=7
)


def subsets(values: list, k: int) -> list[tuple]:
    return list(combinations(values, k))


def mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def vote(subset: tuple[tuple[bool, str | None], ...], right: dict[str, float]) -> float:
    """Expected accuracy of one vote, ties broken at random."""
    counted = Counter(answer for _, answer in subset if answer is not None)
    winners = [answer for answer, n in counted.items() if n == max(counted.values())]
    return mean([right[answer] for answer in winners]) if winners else 0.0


@settings(deadline=None)
@given(samples, st.integers(1, 6))
def test_figures_at_k_are_means_over_all_subsets(drawn: list, num_samples: int) -> None:
    verdicts, answers = [v for v, _ in drawn], [a for _, a in drawn]
    figures = quality([verdicts], num_samples, answers=[answers])
    judged = [(v, a) for v, a in drawn if v is not None]
    right = {a: mean([v for v, b in judged if b == a]) for _, a in judged if a is not None}
    spoken = [a for a in answers if a is not None]
    for k in range(1, num_samples + 1):
        expected = {
            f"pass_at{k}": mean([any(v for v, _ in s) for s in subsets(judged, k)]),
            f"majority_at{k}": mean([vote(s, right) for s in subsets(judged, k)]),
            f"distinct_answers_at{k}": mean([len(set(s)) for s in subsets(spoken, k)]),
        }
        for name, value in expected.items():
            assert figures[name][0] == pytest.approx(value, abs=1e-12, nan_ok=True), name


@settings(deadline=None)
@given(st.lists(st.sampled_from([True, False, None]), max_size=7), st.integers(1, 6))
def test_cover_is_the_share_of_subsets_with_so_many_correct(verdicts: list, num_samples: int) -> None:
    figures = quality([verdicts], num_samples)
    drawn = subsets([v for v in verdicts if v is not None], num_samples)
    sizes = sorted({1, num_samples} | {n for n in (2, 4) if n < num_samples})
    assert [name for name in figures if name.startswith("cover_at")] == [f"cover_at{n}" for n in sizes]
    for n in sizes:
        expected = mean([sum(s) >= n for s in drawn])
        assert figures[f"cover_at{n}"][0] == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_pass_goes_on_to_the_samples_that_there_are() -> None:
    wide = quality([[True] + [False] * 63, [True, False]], 16)
    sizes = sorted(int(name.removeprefix("pass_at")) for name in wide if name.startswith("pass_at"))
    assert sizes == [*range(1, 17), 32, 64]
    assert wide["pass_at64"][0] == 1 and wide["pass_at32"][0] == 0.5 and math.isnan(wide["pass_at32"][1])


def test_where_pass_crosses_the_references() -> None:
    def sides(now: list[int], before: list[int], n: int) -> tuple[list, list]:
        return tuple([[k < right for k in range(n)] for right in side] for side in (now, before))  # type: ignore[return-value]

    # Half of the prompts surer than before, half lost: 5/8 and 0 against 1/8, for twelve prompts.
    now, before = sides([5, 0] * 6, [1, 1] * 6, 8)
    found = pass_crossing(now, before)
    ahead = [np.mean(pass_at(k, np.full(12, 8), np.array([5, 0] * 6))) - k / 8 for k in range(1, 9)]
    k = next(i for i, x in enumerate(ahead) if x <= 0)  # after k, before k + 1
    assert k <= found.value <= k + 1 and 1 <= found.low <= found.value <= found.high <= 8 and found.n == 12
    assert pass_crossing(before, before).value == 1, "never ahead"
    assert math.isnan(pass_crossing(*sides([8] * 6, [1] * 6, 8)).value) is False, "both reach 1 at the end"
    assert math.isnan(pass_crossing(*sides([2] * 6, [0] * 6, 8)).value), "ahead to the end"
    # The reference's further samples are not looked at beyond the number that both have.
    assert pass_crossing(now, [row + [False] * 8 for row in before]).n == 12
    assert pass_crossing([], []).n == 0 and math.isnan(pass_crossing([[None]], [[True]]).value)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=5, max_size=9))
def test_a_crossing_lies_where_the_curves_change_places(counts: list[tuple[int, int]]) -> None:
    graded = np.full(len(counts), 6)
    now, before = (np.array(side) for side in zip(*counts, strict=True))
    found = pass_crossing(*[[[k < right for k in range(6)] for right in side] for side in (now, before)])
    ahead = [float(np.mean(pass_at(k, graded, now) - pass_at(k, graded, before))) for k in range(1, 7)]
    if math.isnan(found.value):
        assert min(ahead) > 0
    else:
        k = math.ceil(found.value - 1e-9)
        assert ahead[k - 1] <= 1e-9 and all(x > -1e-9 for x in ahead[: k - 1])
        assert 1 <= found.low <= found.value + 1e-9 and found.value <= found.high + 1e-9 <= 6 + 1e-6


@settings(deadline=None)
@given(st.lists(st.sampled_from([True, False, None]), max_size=7), st.integers(1, 6))
def test_shares_are_of_k_judged_samples_or_of_all_there_are(verdicts: list, num_samples: int) -> None:
    figures = quality([verdicts], num_samples)
    judged = [v for v in verdicts if v is not None]
    drawn = subsets(judged, min(num_samples, len(judged))) if len(judged) >= 2 else []
    expected = {
        "coverage": mean([any(s) for s in drawn]),
        "solve_all": mean([all(s) for s in drawn]),
        "solve_none": mean([not any(s) for s in drawn]),
        "mixed": mean([any(s) and not all(s) for s in drawn]),
    }
    for name, value in expected.items():
        assert figures[name][0] == pytest.approx(value, abs=1e-12, nan_ok=True), name


def test_one_prompt_by_hand() -> None:
    verdicts = [[True, True, False, False, None]]
    figures = quality(verdicts, 2, no_answer=[[False, True, False, False, True]], answers=[["4", "4", "5", None, "9"]])
    value = {name: value_P[0] for name, value_P in figures.items()}
    assert value["accuracy"] == 1 / 2
    assert value["accuracy_no_answer_wrong"] == 2 / 5  # the cut-off sample that was judged correct stays correct
    assert value["pass_at2"] == pytest.approx(5 / 6)
    # Of the six pairs 44 wins, 45 ties (twice), 4- wins (twice), and 5- loses.
    assert value["majority_at2"] == pytest.approx((1 + 2 * 0.5 + 2 + 0) / 6)
    assert value["majority_gain"] == pytest.approx(4 / 6 - 1 / 2)
    assert value["distinct_answers_at2"] == pytest.approx(5 / 6 * 1 + 1)
    assert value["coverage"] == pytest.approx(5 / 6) and value["mixed"] == pytest.approx(4 / 6)


def test_a_vote_gains_where_wrong_answers_scatter_and_loses_where_they_agree() -> None:
    verdicts = [[True] * 6 + [False] * 10] * 2
    answers = [["4"] * 6 + [str(k) for k in range(10, 20)], ["4"] * 6 + ["5"] * 10]
    gain_scattered, gain_agreeing = quality(verdicts, 16, answers=answers)["majority_gain"]
    assert gain_scattered == pytest.approx(1 - 6 / 16) and gain_agreeing == pytest.approx(-6 / 16)


def test_undefined_is_nan_and_not_zero() -> None:
    figures = quality([[None, None], [True], []], 2, no_answer=[[False, True], [False], []])
    assert np.isnan(figures["accuracy"]).tolist() == [True, False, True]
    assert figures["accuracy_no_answer_wrong"].tolist()[:2] == [0.0, 1.0] and np.isnan(
        figures["accuracy_no_answer_wrong"][2]
    )
    assert np.isnan(figures["pass_at2"]).all() and np.isnan(figures["coverage"]).all()
    assert figures["pass_at1"][1] == 1.0


def test_without_answers_there_is_no_vote_and_without_flags_no_no_answer() -> None:
    names = set(quality([[True, False]], 2))
    at_sizes = {f"{figure}_at{k}" for figure in ("pass", "cover") for k in (1, 2)}
    assert names == {"accuracy", *at_sizes, "coverage", "solve_all", "solve_none", "mixed"}


def test_a_larger_reference_of_real_size_is_exact_and_quick() -> None:
    """64 samples at k up to 16: against draws, since 5e14 subsets cannot be listed."""
    generator = np.random.default_rng(0)
    answer_N = generator.choice(list("abcdefg"), size=64, p=[0.28, 0.25, 0.2, 0.1, 0.07, 0.05, 0.05])
    answers = [a if a != "g" else None for a in answer_N.tolist()]
    verdicts = [a == "a" for a in answers]
    began = time.perf_counter()
    expected = majority_at(16, verdicts, answers)
    seconds = time.perf_counter() - began
    drawn = [generator.choice(64, 16, replace=False) for _ in range(20_000)]
    right = {a: float(a == "a") for a in "abcdef"}
    simulated = mean([vote(tuple((verdicts[i], answers[i]) for i in d), right) for d in drawn])
    assert expected[15] == pytest.approx(simulated, abs=4 * 0.5 / math.sqrt(20_000))
    assert seconds < 0.5


def test_scores_carry_mean_interval_and_values() -> None:
    rows = [[True, True], [False, True], [None]]
    found = {score.metric: score for score in scores("gsm8k", quality(rows * 3, 2))}
    accuracy = found["accuracy"]
    assert (accuracy.task, accuracy.mean, accuracy.n) == ("gsm8k", 0.75, 6)
    assert accuracy.low < 0.75 < accuracy.high and math.isnan(accuracy.values[2])
    assert math.isnan(scores("gsm8k", quality(rows, 2))[0].low), "two prompts tell little of the spread"
    assert found["solve_all"].mean == 0.5 and found["mixed"].mean == 0.5


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match="num_samples of 1 or more, got 0"):
        quality([[True]], 0)
    with pytest.raises(ValueError, match="'answers' must have one entry for each verdict"):
        quality([[True]], 1, answers=[["4", "5"]])
    with pytest.raises(ValueError, match="'no_answer' must have one entry for each verdict"):
        quality([[True]], 1, no_answer=[])
