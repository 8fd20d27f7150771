from __future__ import annotations

import math

import torch

from divmon.scoring.metrics.length import length


def test_words_are_of_answers_and_tokens_of_all_that_was_drawn() -> None:
    """The second sample was cut off inside its reasoning: it has no answer, and it cost its tokens."""
    figures = length([["one two three", None, None]], torch.tensor([[5.0, 100.0, math.nan]], dtype=torch.float64))
    assert figures["length_words"].item() == 3 and figures["length_tokens"].item() == 52.5
    assert set(length([["a"]])) == {"length_words"}
