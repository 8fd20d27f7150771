"""Completions that say the same stand together, by words and by meaning."""

from __future__ import annotations

import numpy as np
import pytest

from divmon.analysis.report import groups, samples
from divmon.analysis.report.samples import Answers

SAME = ["The capital of France is Paris.", "the capital of France is Paris", "The capital of France is Paris!!"]
OTHER = ["Berlin lies on the river Spree", "I cannot answer that."]


def test_by_words_other_punctuation_is_the_same_and_other_words_are_not() -> None:
    label = groups.by_words([*SAME, *OTHER])
    assert len(set(label[:3])) == 1 and len(set(label)) == 3


@pytest.mark.parametrize("texts", [[], [""], ["", "   "], ["one text"]])
def test_little_or_nothing_to_group(texts: list[str]) -> None:
    assert groups.by_words(texts) == [0] * len(texts)


def test_by_meaning_directions_that_are_close_are_joined() -> None:
    angle = np.deg2rad([0, 10, 20, 90, 100])
    label = groups.by_meaning(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    assert len(set(label[:3])) == 1 and label[3] == label[4] != label[0]


def test_rare_texts_join_the_nearest_group(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = groups.by_words([*SAME, *OTHER, SAME[0] + " Yes.", OTHER[0] + " there"])
    monkeypatch.setattr(groups, "MOST", 5)
    label = groups.by_words([*SAME, *OTHER, SAME[0] + " Yes.", OTHER[0] + " there"])
    assert label[5] == label[0] and label[6] == label[3]
    assert len(set(whole)) == len(set(label))


def answers() -> Answers:
    texts = [*OTHER, *SAME]
    drawn = [(text, True, "eos", 3, "") for text in (0, 2, 3, 4, 2, 1)]
    return Answers("Where?", None, texts, {"a": {0: drawn}})


def test_the_largest_group_comes_first_and_shows_its_commonest_text() -> None:
    one = answers()
    said = samples.group([one], None)
    assert said.startswith("by words")
    assert one.group[2:] == [0, 0, 0] and sorted(one.group[:2]) == [1, 2]
    assert one.counts("a", 0) == {0: 4, 1: 1, 2: 1}
    assert one.examples("a", 0, 1) == [(SAME[0], 2)]


def test_by_meaning_with_the_runs_encoder_only_where_it_is_asked_for() -> None:
    one = answers()
    said = samples.group([one], "minilm", "meaning")
    assert "encoded again with minilm" in said and one.group[2:] == [0, 0, 0]
    with pytest.raises(RuntimeError):
        samples.group([one], "nobody/has-this-encoder", "meaning")
    with pytest.raises(RuntimeError, match="name no text encoder"):
        samples.group([one], None, "meaning")


def test_texts_are_not_encoded_unasked() -> None:
    assert "--groups meaning" in samples.group([answers()], "minilm")
