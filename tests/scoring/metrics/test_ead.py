from __future__ import annotations

import math
from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.metric_helpers import close

from divmon.scoring.metrics.ead import ead

texts = st.lists(st.text("ab .\n", max_size=12), min_size=2, max_size=5)


def naive(texts: list[str], vocab_size: int) -> float:
    """The formula term by term."""
    total = 0.0
    for n in range(1, 6):
        grams = []
        for text in texts:
            words = text.replace(".", "").replace("\n", "").split()
            grams += [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
        if grams:
            total += min(len(set(grams)) / (vocab_size * (1 - ((vocab_size - 1) / vocab_size) ** len(grams))), 1)
    return total / 5


def test_the_papers_values(solutions: list, golden: dict | None) -> None:
    outputs = [row["outputs"] for row in solutions]
    expected = golden["ead"] if golden else [naive(texts, 50257) for texts in outputs]
    assert close(ead(outputs), expected, 1e-9)


@given(texts, st.integers(2, 200))
def test_it_is_the_formula_term_by_term_whatever_the_order(texts: list[str], vocab_size: int) -> None:
    value = ead([texts], vocab_size).item()
    assert value == pytest.approx(naive(texts, vocab_size), abs=1e-12)
    assert value == ead([texts[::-1]], vocab_size).item()
    assert 0 <= value <= 1


@given(texts)
def test_a_copy_of_all_texts_lowers_it(texts: list[str]) -> None:
    assert ead([[*texts, *texts]]).item() <= ead([texts]).item()


def test_prompts_do_not_touch_each_other_and_masked_texts_do_not_count() -> None:
    batch = [["a b", "a c"], ["d", None, "d"], ["only", None]]
    assert ead(batch)[:2].tolist() == list(chain(ead([batch[0]]).tolist(), ead([["d", "d"]]).tolist()))
    assert math.isnan(ead(batch)[2].item())


def test_tokens_join_over_deleted_stops_and_newlines() -> None:
    assert torch.equal(ead([["one.two\nthree", "x"]]), ead([["onetwothree", "x"]]))


def test_eight_thousand_words_are_told_apart() -> None:
    """Five of their numbers side by side take 65 bits: cut to 64, the first word would lose its highest."""
    words = [f"w{i}" for i in range(8190)]
    texts = [" ".join(words), "w0 w1 w2 w3 w4 w4096 w1 w2 w3 w4"]
    assert ead([texts], 10**9).item() == pytest.approx(naive(texts, 10**9), abs=1e-12)
