"""Where curves part: uniform under the null, powerful off it, equal to scipy's permutation test at one look."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from divmon.analysis.comparison.divergence import LEVEL, holm, sign_flips

values = st.floats(-9, 9).map(lambda x: round(x, 3))


def looks(generator: np.random.Generator, prompts: int, count: int, shift: float = 0.0) -> np.ndarray:
    """Differences [L, P] with a part of the prompt's own in every look, heavy tails, symmetric around the shift."""
    own_P = generator.standard_t(4, prompts)
    return 0.7 * own_P + generator.standard_t(4, (count, prompts)) + shift


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-9, 9), min_size=2, max_size=9))  # of other numbers sums differ by rounding, ties with them
def test_at_one_look_it_is_scipys_permutation_test(difference_P: list[int]) -> None:
    expected = scipy_stats.permutation_test(
        (np.array(difference_P, dtype=float),), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flips([difference_P])[0] == pytest.approx(min(expected.pvalue, 1.0), abs=1e-12)


def test_at_many_prompts_it_is_scipys_to_within_the_flips_drawn() -> None:
    difference_P = looks(np.random.default_rng(0), 64, 1, 0.35)[0]
    expected = scipy_stats.permutation_test(
        (difference_P,), np.mean, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(1)
    )
    found = sign_flips([difference_P])[0]
    assert found == pytest.approx(expected.pvalue, abs=5 * np.sqrt(found / 10_000) + 1e-3)
    assert sign_flips([difference_P])[0] == found, "seeded"


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 4), st.integers(3, 7), st.data())
def test_over_looks_it_is_the_step_down_maximum_of_students_t_over_all_sign_patterns(
    count: int, prompts: int, data: st.DataObject
) -> None:
    rows = st.lists(st.floats(0.1, 9), min_size=prompts, max_size=prompts)
    signs = st.lists(st.sampled_from([-1.0, 1.0]), min_size=prompts, max_size=prompts)
    difference_LP = np.array([data.draw(rows) for _ in range(count)]) * np.array(
        [data.draw(signs) for _ in range(count)]
    )
    patterns = np.array(list(itertools.product([-1.0, 1.0], repeat=prompts)))

    def t(flipped_LP: np.ndarray) -> np.ndarray:
        mean_L = np.abs(flipped_LP.mean(1))
        return mean_L / np.maximum(flipped_LP.std(1, ddof=1), 1e-9 * mean_L)  # all equal: as large as can be

    seen_L = t(difference_LP)
    null_BL = np.array([t(difference_LP * pattern) for pattern in patterns])
    order, expected, before = np.argsort(-seen_L, kind="stable"), np.empty(count), 0.0
    for rank, look in enumerate(order):
        largest_B = null_BL[:, order[rank:]].max(1)
        before = max(before, float((largest_B >= seen_L[look] * (1 - 1e-7)).mean()))
        expected[look] = before
    assert sign_flips(difference_LP) == pytest.approx(expected, abs=1e-12)


def test_under_the_null_the_p_value_of_the_whole_curve_is_uniform() -> None:
    generator = np.random.default_rng(100)
    p = [sign_flips(looks(generator, 24, 6), flips=999, seed=i).min() for i in range(3000)]
    assert scipy_stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / 3000))


def test_a_test_look_by_look_would_not_be() -> None:
    generator = np.random.default_rng(3)
    least = [min(sign_flips([row], flips=499)[0] for row in looks(generator, 24, 6)) for _ in range(200)]
    assert np.mean(np.array(least) <= 0.05) > 0.1


def test_where_some_looks_differ_the_others_are_called_apart_in_at_most_5_percent() -> None:
    generator = np.random.default_rng(4)
    shift_L1 = np.array([[0.0], [0.0], [0.0], [3.0], [3.0]])
    wrong, caught = 0, 0
    for i in range(400):
        p_L = sign_flips(looks(generator, 32, 5) + shift_L1, flips=499, seed=i)
        wrong += bool((p_L[:3] <= 0.05).any())
        caught += bool(p_L[3] <= LEVEL)
    assert wrong / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
    assert caught >= 395


def test_power_a_loss_of_half_a_spread_is_found_at_64_prompts() -> None:
    generator = np.random.default_rng(5)
    found = [(sign_flips(looks(generator, 64, 10, 0.9), flips=999) <= LEVEL).any() for _ in range(100)]
    assert np.mean(found) > 0.95


@given(st.lists(values, min_size=3, max_size=8), st.floats(0.01, 100))
def test_neither_units_nor_which_run_comes_first_matter(difference_P: list[float], unit: float) -> None:
    one = np.array([difference_P, difference_P[::-1]])
    assert sign_flips(one * -unit) == pytest.approx(sign_flips(one), abs=1e-12)


def test_looks_where_nothing_differs_or_nothing_is_defined_are_no_difference() -> None:
    nan = float("nan")
    assert sign_flips([[-1.375, 1.5, 0.625, -1.312, 2.0, 3.0, -4.438]]).tolist() == [1.0], "a sum of 0 up to rounding"
    assert sign_flips([[0.0] * 5, [1.0] * 5, [nan] * 5]).tolist() == [1.0, 2 / 32, 1.0]
    assert sign_flips([[1.0, nan, 2.0]]).tolist() == sign_flips([[1.0, 2.0]]).tolist() == [0.5]
    assert sign_flips([[1.0]]).tolist() == [1.0]
    assert sign_flips(np.zeros((2, 0))).tolist() == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_textbooks(p: list[float]) -> None:
    order, running, expected = np.argsort(p, kind="stable"), 0.0, np.empty(len(p))
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p) - rank) * p[i]))
        expected[i] = running
    assert holm(p) == pytest.approx(expected)
    assert np.isnan(holm([*p, float("nan")])[-1]) and holm([*p, float("nan")])[:-1] == pytest.approx(expected)
