"""Intervals over prompts: closed forms against the naive computation, and coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from divmon.scoring.intervals import FEWEST, from_replicates, jackknife, mean_interval, paired_change

values = st.lists(st.floats(0.1, 50), min_size=FEWEST, max_size=20)


def harmonic(values_P: np.ndarray) -> float:
    return float(1 / np.mean(1 / values_P))


@given(values)
def test_the_mean_has_the_t_interval_of_scipy(values_P: list[float]) -> None:
    expected = scipy_stats.t.interval(
        0.95, len(values_P) - 1, loc=np.mean(values_P), scale=max(scipy_stats.sem(values_P), 1e-300)
    )
    interval = mean_interval(values_P)
    assert (interval.low, interval.high) == pytest.approx(expected, abs=1e-9)
    assert interval.value == pytest.approx(np.mean(values_P)) and interval.n == len(values_P)


@given(values)
def test_closed_forms_equal_recomputation_with_each_prompt_left_out(values_P: list[float]) -> None:
    for name, function in {"mean": lambda v: float(v.mean()), "harmonic_mean": harmonic}.items():
        closed, recomputed = jackknife(name, values_P), jackknife(function, values_P)
        assert (closed.value, closed.low, closed.high) == pytest.approx(
            (recomputed.value, recomputed.low, recomputed.high), rel=1e-7, abs=1e-7
        )


def test_fewer_than_five_prompts_have_a_value_and_no_interval() -> None:
    four, five = mean_interval([0.1, 0.9, 0.4, math.nan, 0.2]), mean_interval([0.1, 0.9, 0.4, 0.3, 0.2])
    assert four.n == 4 and four.value == pytest.approx(0.4) and math.isnan(four.low) and math.isnan(four.high)
    assert five.low < five.value < five.high


def test_undefined_prompts_are_left_out_and_counted() -> None:
    interval = mean_interval([1.0, math.nan, 3.0, math.nan])
    assert interval.value == 2.0 and interval.n == 2


@pytest.mark.parametrize("statistic", ["mean", "harmonic_mean", lambda v: float(np.mean(v))])
def test_one_prompt_has_a_value_and_no_interval_and_none_has_nothing(statistic: object) -> None:
    one, none = jackknife(statistic, [2.0]), jackknife(statistic, [])  # type: ignore[arg-type]
    assert one.value == 2.0 and one.n == 1 and math.isnan(one.low) and math.isnan(one.high)
    assert math.isnan(none.value) and math.isnan(none.low) and none.n == 0


def test_a_statistic_of_rows_is_recomputed_row_by_row() -> None:
    rows = np.random.default_rng(0).gamma(2.0, size=(30, 2))
    ratio = jackknife(lambda r: float(r[:, 0].sum() / r[:, 1].sum()), rows)
    left_out = [np.delete(rows, p, 0).sum(0) for p in range(30)]
    assert ratio == from_replicates(ratio.value, [a / b for a, b in left_out], n=30)


@given(st.lists(st.tuples(st.floats(0.1, 9), st.floats(0.1, 9)), min_size=FEWEST, max_size=15))
def test_the_paired_change_is_the_interval_of_the_differences(pairs: list[tuple[float, float]]) -> None:
    now, reference = np.array(pairs).T
    change, differences = paired_change(now, reference), mean_interval(now - reference)
    assert (change.change, change.low, change.high) == pytest.approx(
        (differences.value, differences.low, differences.high), abs=1e-9
    )
    assert change.change == pytest.approx(change.now - change.reference)


def test_the_paired_change_keeps_prompts_defined_on_both_sides() -> None:
    change = paired_change([1.0, 2.0, math.nan, 4.0], [2.0, math.nan, 3.0, 8.0])
    assert (change.now, change.reference, change.change, change.n) == (2.5, 5.0, -2.5, 2)
    nothing = paired_change([math.nan], [1.0])
    assert math.isnan(nothing.change) and nothing.n == 0


def test_the_paired_change_of_harmonic_means_leaves_a_prompt_out_on_both_sides() -> None:
    generator = np.random.default_rng(1)
    now, reference = generator.uniform(1, 8, 20), generator.uniform(1, 8, 20)
    expected = jackknife(lambda rows: harmonic(rows[:, 0]) - harmonic(rows[:, 1]), np.stack([now, reference], 1))
    change = paired_change(now, reference, "harmonic_mean")
    assert (change.change, change.low, change.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match="same prompts on both sides"):
        paired_change([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="no aggregate named 'median'; there are mean, harmonic_mean"):
        jackknife("median", [1.0, 2.0])


def covered(truth: float, intervals: list) -> float:
    return float(np.mean([interval.low <= truth <= interval.high for interval in intervals]))


def test_intervals_at_64_prompts_cover_the_truth() -> None:
    """92 to 96 percent by design; 2,000 repetitions put 3 standard errors at 1.5 points."""
    generator = np.random.default_rng(2)
    skewed = generator.gamma(1.5, 0.2, size=(2000, 64))
    assert 0.92 <= covered(0.3, [mean_interval(values_P) for values_P in skewed]) <= 0.965
    effective = 8 / (1 + 7 * generator.beta(2, 2, size=(2000, 64)))
    truth = 8 / (1 + 7 * 0.5)
    assert 0.92 <= covered(truth, [jackknife("harmonic_mean", values_P) for values_P in effective]) <= 0.965


def test_paired_changes_with_shared_prompt_effects_cover_the_truth() -> None:
    generator = np.random.default_rng(3)
    prompt = generator.gamma(2, 0.1, size=(2000, 64))
    reference, now = (prompt * scale + generator.normal(0, 0.03, prompt.shape) for scale in (1.0, 0.8))
    changes = [paired_change(n, r) for n, r in zip(now, reference, strict=True)]
    assert 0.92 <= covered(-0.2 * 0.2, changes) <= 0.965
