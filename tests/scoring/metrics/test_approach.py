"""Approaches: the same steps in other words are the same approach, other steps are not."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from divmon.scoring.metrics.approach import approach, steps_of


def of(texts: list[str | None], correct: list[bool] | None = None) -> tuple[float, float]:
    right = None if correct is None else torch.tensor([correct])
    found = approach([texts], [[None] * len(texts)], right)
    return found["approach"].item(), found["approaches"].item()


def test_wording_does_not_count_and_steps_do() -> None:
    worded: list[str | None] = [
        "First, 3 + 4 = 7 apples. Then 7 x 2 = $14.",
        "Let us see: 4+3=7\n\nso the price is 2 * 7 = 14.00 dollars",
        "<<3+4=7>>7 in all, <<7*2=14>>14",
    ]
    assert of(worded) == (0, 1)
    other = "3 * 2 = 6, 4 * 2 = 8, 6 + 8 = 14"
    mean, effective = of([*worded[:1], other])
    assert (mean, effective) == (1, 8)
    # Two of three pairs differ, and two steps of (2 and 3) are shared by none.
    assert of([*worded[:2], other]) == pytest.approx((2 / 3, 8 / (1 + 7 / 3)))


def test_a_shared_step_brings_two_approaches_nearer_and_order_counts() -> None:
    assert of(["1 + 2 = 3, 3 * 5 = 15", "1 + 2 = 3, 3 + 12 = 15"])[0] == pytest.approx(0.5)
    assert of(["1 + 2 = 3, 4 - 3 = 1", "4 - 3 = 1, 1 + 2 = 3"])[0] == pytest.approx(0.5)
    assert steps_of("7 - 3 = 4") != steps_of("3 - 7 = 4"), "of a difference the order counts"


def test_what_shows_no_steps_or_is_wrong_is_left_out() -> None:
    texts: list[str | None] = ["1 + 1 = 2", "It is two.", None, "1 + 1 = 2", "2 * 1 = 2"]
    assert of(texts) == pytest.approx((2 / 3, 8 / (1 + 7 / 3)))
    assert of(texts, [True, True, False, True, False]) == (0, 1)
    assert all(torch.tensor(of(["no", "none"])).isnan())


def test_programs_by_their_build_without_names() -> None:
    loop = "def f(xs):\n    t = 0\n    for x in xs:\n        t += x\n    return t"
    found = approach([[None] * 3], [[loop, loop.replace("x", "y"), "def f(xs):\n    return sum(xs)"]])
    assert 0 < found["approach"].item() < 1 and found["approaches"].item() == pytest.approx(8 / (1 + 7 / 3))
    assert approach([[None, None]], [[loop, "not python at all :("]])["approach"].isnan().all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=5), min_size=2, max_size=5))
def test_the_distance_is_one_minus_the_share_of_common_steps(rows: list[list[str]]) -> None:
    number = dict(zip("abcd", (3, 4, 5, 6), strict=True))
    texts: list[str | None] = [", ".join(f"1 + {number[s] - 1} = {number[s]}" for s in row) for row in rows]

    def common(a: list[str], b: list[str]) -> int:
        """By brute force over subsequences."""
        subsequences = ({tuple(s) for n in range(len(x) + 1) for s in itertools.combinations(x, n)} for x in (a, b))
        return max(map(len, set.intersection(*subsequences)))

    pairs = list(itertools.combinations(rows, 2))
    expected = sum(1 - 2 * common(a, b) / (len(a) + len(b)) for a, b in pairs) / len(pairs)
    assert of(texts)[0] == pytest.approx(expected)
