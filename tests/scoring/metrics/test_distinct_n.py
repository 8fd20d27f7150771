from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from divmon.scoring.metrics.distinct_n import distinct_n

texts = st.lists(st.text("ab ", max_size=10), min_size=2, max_size=5)


@given(texts, st.integers(1, 4))
def test_it_is_distinct_over_all_in_the_pool_whatever_the_order(texts: list[str], n: int) -> None:
    grams = [tuple(w[i : i + n]) for w in map(str.split, texts) for i in range(len(w) - n + 1)]
    value = distinct_n([texts])[f"distinct_{n}"].item()
    assert value == pytest.approx(len(set(grams)) / len(grams) if grams else float("nan"), nan_ok=True)
    assert value == pytest.approx(distinct_n([texts[::-1]])[f"distinct_{n}"].item(), nan_ok=True)


def test_n_grams_do_not_cross_texts_and_copies_lower_it() -> None:
    assert distinct_n([["a b", "c d"]])["distinct_2"].item() == 1
    assert distinct_n([["a", "b"]])["distinct_2"].isnan().all()
    assert distinct_n([["a b"] * 4])["distinct_1"].item() == 0.25
