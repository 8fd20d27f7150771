from __future__ import annotations

import pytest

from divmon.scoring.metrics.repetition import repetition


def of(text: str) -> float:
    return repetition([[text, text]]).item()


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("a b c d a b c d", 1 / 8),
        ("a b c d a b c e", 0),
        ("a b c d a b c d a b c d", 5 / 12),
        ("42", 0),
        ("x!!!!!!", 2 / 7),
    ],
)
def test_words_that_end_a_run_which_was_there_before(text: str, share: float) -> None:
    assert of(text) == pytest.approx(share)


@pytest.mark.parametrize("loop", ["I am sorry. ", "我很抱歉。", "ขอโทษครับ", "a", "é", "=>"])
def test_a_loop_in_any_script_comes_near_one(loop: str) -> None:
    assert of("It began well. " + loop * 2000) > 0.9


def test_what_samples_share_is_no_repetition() -> None:
    text = "each word here stands once and only once in it"
    assert repetition([[text] * 16]).item() == 0


def test_empty_texts_and_missing_ones_are_left_out() -> None:
    value_P = repetition([["a b c d a b c d", "", None, "e"], ["a", "", None, " "], [None, None, None, None]])
    assert value_P[0].item() == pytest.approx(1 / 16)
    assert value_P[1:].isnan().all()
