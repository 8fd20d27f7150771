"""Changes between different prompts: Welch's interval, and a split that adds up and finds what was put in."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as theirs

from divmon.scoring.decomposition import STRATA, Pairs, pairs
from divmon.scoring.intervals import leave_one_out
from divmon.training.rollouts.unpaired import decompose_unpaired, two_sample_interval, unpaired_change
from divmon.types import TERMS


def test_a_difference_of_means_has_welchs_interval() -> None:
    rng = np.random.default_rng(0)
    now, reference = rng.normal(1, 1, 12), rng.normal(0, 3, 30)
    found = unpaired_change([*now, math.nan], reference)
    expected = theirs.ttest_ind(now, reference, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.change == pytest.approx(now.mean() - reference.mean()) and found.n == 12


def test_a_harmonic_mean_is_recomputed_without_each_group() -> None:
    now, reference = np.array([1.0, 2.0, 4.0, 2.0, 3.0]), np.array([3.0, 3.0, 6.0, 5.0, 2.0])
    found = unpaired_change(now, reference, "harmonic_mean")
    assert found.now == pytest.approx(theirs.hmean(now)) and found.reference == pytest.approx(theirs.hmean(reference))
    by_hand = two_sample_interval(
        found.change,
        [theirs.hmean(np.delete(now, i)) - found.reference for i in range(5)],
        [found.now - theirs.hmean(np.delete(reference, i)) for i in range(5)],
    )
    assert (found.low, found.high) == pytest.approx((by_hand.low, by_hand.high))


@pytest.mark.parametrize("now, reference", [([1.0], [1.0, 2.0]), ([], [1.0, 2.0]), ([math.nan], [])])
def test_too_few_groups_have_no_interval(now: list[float], reference: list[float]) -> None:
    found = unpaired_change(now, reference)
    assert math.isnan(found.low) and math.isnan(found.high) and found.n == min(len(now), 1) * (found.now == found.now)


def test_equal_values_have_an_interval_of_no_width() -> None:
    found = unpaired_change([1.0] * 5, [0.0] * 6)
    assert (found.change, found.low, found.high) == (1.0, 1.0, 1.0)


def drawn(rng: np.random.Generator, groups: int, right: float, distance: dict[str, float], size: int = 6) -> Pairs:
    """Groups of answers, correct with a chance that differs between prompts, and of these distances by stratum."""
    chance_P = rng.beta(8 * right, 8 * (1 - right), groups)
    correct_PN = rng.random((groups, size)) < chance_P[:, None]
    both = correct_PN[:, :, None] & correct_PN[:, None, :]
    none = ~correct_PN[:, :, None] & ~correct_PN[:, None, :]
    mean = np.where(both, distance["correct"], np.where(none, distance["wrong"], distance["cross"]))
    noise = rng.normal(0, 0.05, (groups, 1, 1)) + rng.normal(0, 0.05, mean.shape)
    return pairs(mean + noise, correct_PN.tolist())


BEFORE = {"correct": 0.4, "wrong": 0.6, "cross": 0.7}


def test_the_parts_add_up_and_are_what_was_put_in() -> None:
    """Correct answers lose 0.1 a pair and wrong ones nothing, while the share of wrong ones falls."""
    rng = np.random.default_rng(1)
    found = decompose_unpaired(drawn(rng, 4000, 0.4, BEFORE), drawn(rng, 4000, 0.8, BEFORE | {"correct": 0.3}))
    assert sum(found.terms.values()) == pytest.approx(found.change, abs=1e-12)
    assert found.change == pytest.approx(found.now - found.reference, abs=1e-12)
    assert found.correct_pair_change == pytest.approx(-0.1, abs=0.01)
    assert found.narrowing_correct == pytest.approx(-0.1 * (0.19 + 0.66) / 2, abs=0.01)  # E[p^2] of both betas
    assert abs(found.narrowing_wrong) < 0.005 and abs(found.narrowing_cross) < 0.005
    assert found.quality_control < -0.05
    for variant in found.bracket.values():
        assert sum(variant.values()) == pytest.approx(found.change, abs=1e-12)
    assert found.as_dict()["labels"] == {}


def test_a_stratum_of_one_side_is_not_called_narrowing() -> None:
    rng = np.random.default_rng(2)
    only_wrong, mixed = drawn(rng, 20, 1e-9, BEFORE), drawn(rng, 20, 0.5, BEFORE)
    found = decompose_unpaired(only_wrong, mixed)
    assert found.narrowing_correct == 0 and math.isnan(found.ci95["narrowing_correct"][0])
    assert found.support["correct"] == 0 and found.labels["correct"] == "not identifiable"
    assert math.isnan(found.correct_pair_change)
    assert found.quality_control + found.narrowing_wrong == pytest.approx(found.change)
    nothing = decompose_unpaired(only_wrong, only_wrong)
    assert nothing.change == 0 and math.isnan(nothing.support["correct"])


def test_groups_without_a_judged_pair_do_not_count() -> None:
    distance = np.full((3, 2, 2), 0.5)
    side = pairs(distance, [[True, True], [None, True], [False, False]])
    found = decompose_unpaired(side, side)
    assert found.n == 2 and found.change == 0 and found.n_supported == dict(zip(STRATA, (1, 1, 0), strict=True))
    empty = decompose_unpaired(side, pairs(distance, [[None, None]] * 3))
    assert empty.n == 0 and math.isnan(empty.ci95["change"][0])


def test_its_intervals_hold_the_truth() -> None:
    """In 400 pairs of windows of 40 groups, 95 percent intervals hold the value of very many groups."""
    rng = np.random.default_rng(3)
    after = BEFORE | {"correct": 0.3}
    truth = decompose_unpaired(drawn(rng, 20_000, 0.4, BEFORE), drawn(rng, 20_000, 0.7, after))
    names = ("change", "correct_pair_change", *TERMS)
    held = dict.fromkeys(names, 0)
    for _ in range(400):
        found = decompose_unpaired(drawn(rng, 40, 0.4, BEFORE), drawn(rng, 40, 0.7, after))
        for name in names:
            low, high = found.ci95[name]
            held[name] += low <= getattr(truth, name) <= high
    assert all(0.91 <= count / 400 <= 0.985 for count in held.values()), held


def test_leaving_one_out_is_recomputing() -> None:
    """Each replicate of the split is the split without that group."""
    rng = np.random.default_rng(4)
    before, after = drawn(rng, 7, 0.5, BEFORE), drawn(rng, 9, 0.6, BEFORE | {"wrong": 0.5})
    found = decompose_unpaired(before, after)
    for name in ("change", *TERMS):
        without = [
            [getattr(decompose_unpaired(before, after.take(np.arange(9) != i)), name) for i in range(9)],
            [getattr(decompose_unpaired(before.take(np.arange(7) != i), after), name) for i in range(7)],
        ]
        expected = two_sample_interval(getattr(found, name), *without)
        assert found.ci95[name] == pytest.approx((expected.low, expected.high))
    assert leave_one_out("mean", np.array([1.0, 3.0]))[1].tolist() == [3.0, 1.0]
