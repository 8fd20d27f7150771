from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from divmon.scoring.metrics.duplicates import duplicates

texts = st.lists(st.sampled_from("abc"), min_size=2, max_size=7)


@given(texts)
def test_it_is_the_share_of_equal_pairs_whatever_the_order(texts: list[str]) -> None:
    pairs = [a == b for a, b in combinations(texts, 2)]
    figures, flipped = duplicates([texts]), duplicates([texts[::-1]])
    assert figures["duplicate_pairs"].item() == pytest.approx(sum(pairs) / len(pairs))
    assert figures["distinct_share"].item() == pytest.approx(len(set(texts)) / len(texts))
    assert figures == flipped


@given(texts.filter(lambda t: len(t) > 2))
def test_pairs_are_the_same_in_expectation_for_every_number_of_samples(texts: list[str]) -> None:
    subsets = [list(chosen) for chosen in combinations(texts, len(texts) - 1)]
    mean = duplicates(subsets)["duplicate_pairs"].mean().item()
    assert mean == pytest.approx(duplicates([texts])["duplicate_pairs"].item())


def test_of_more_samples_the_share_takes_the_first_k() -> None:
    figures = duplicates([["a", "b", "a", "a"]], num_samples=2)
    assert figures["distinct_share"].item() == 1 and figures["duplicate_pairs"].item() == 0.5


def test_white_space_at_the_ends_does_not_tell_texts_apart() -> None:
    assert duplicates([["4\n", " 4"]])["duplicate_pairs"].item() == 1
