"""The registry of figures: intervals stay inside what a figure can be."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from divmon.scoring.figure_registry import Registry
from divmon.scoring.intervals import mean_interval
from divmon.types import Change, Score

SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(SHARES, st.sampled_from(["accuracy", "pass_at4", "empty", "distinct_1", "frac_reward_zero_std"]))
def test_a_share_has_an_interval_between_0_and_1(values: list[float], name: str) -> None:
    found = mean_interval(values)
    (score,) = Registry().bounded([Score("t", name, found.value, found.low, found.high, found.n)])
    assert math.isnan(score.low) if len(values) < 5 else 0 <= score.low <= score.mean <= score.high <= 1


def test_bounds_of_other_figures_and_of_changes() -> None:
    known = Registry()
    wide = [Score("t", name, 2.0, -9.0, 99.0) for name in ("vendi_at4", "distinct_answers_at4", "length_tokens", "own")]
    assert [(s.low, s.high) for s in known.bounded(wide)] == [(1, 4), (1, 4), (0, 99), (-9, 99)]
    (fall,) = known.bounded_changes([Change("t", "accuracy", 0.9, 0.1, -0.8, -1.4, 0.2, 9)])
    assert (fall.low, fall.high) == (-1, 0.2)


def test_an_interval_is_never_short_of_its_value() -> None:
    """EAD's range is that of an expectation: texts without a repeated word are slightly above 1."""
    (score,) = Registry().bounded([Score("t", "ead", 1.02, 0.99, 1.05)])
    assert (score.low, score.high) == (0.99, 1.02)
