"""Words of scripts with and without spaces, and the metrics that count them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from divmon.scoring.metrics.distinct_n import distinct_n
from divmon.scoring.metrics.ead import ead
from divmon.scoring.metrics.length import length
from divmon.scoring.segmentation import words

SAME = {
    "Chinese": ("今天天气很好,我们去公园散步。", "他昨天买了三本新书,准备周末读。"),
    "Japanese": ("今日はとても良い天気ですね。", "彼は昨日、新しい本を三冊買いました。"),
    "Thai": ("วันนี้อากาศดีมาก", "เมื่อวานเขาซื้อหนังสือใหม่"),
}


@given(st.text(alphabet="ab .,\n\téß—🙂한국어 हिन्दी العربية русский"))
def test_scripts_with_spaces_are_split_there_as_the_paper_does(text: str) -> None:
    assert words(text) == text.split()


@given(st.text(alphabet="ab 你好です。ทั้ง\u3000"))
def test_nothing_is_lost_but_white_space(text: str) -> None:
    assert "".join(words(text)) == "".join(text.split())


def test_vowel_signs_and_tones_stay_with_their_character() -> None:
    assert words("น้ำ ดี") == ["น้", "ำ", "ดี"]


@pytest.mark.parametrize("script", SAME)
def test_lexical_metrics_are_not_constant_without_spaces(script: str) -> None:
    first, second = SAME[script]
    copies, others = [first] * 4, [first, second, first, second]
    for name in ("distinct_1", "distinct_2"):
        low, high = (distinct_n([texts])[name].item() for texts in (copies, others))
        assert 0 < low < high < 1
    low, high = ead([copies, others]).tolist()
    assert 0 < low < high < 1
    short, long = length([[first[:5]] * 2, [first] * 2])["length_words"].tolist()
    assert 1 < short < long
