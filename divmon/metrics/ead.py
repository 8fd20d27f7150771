"""Expectation-adjusted distinct n-grams."""

from __future__ import annotations

import torch
from torch import Tensor

_MAX_N = 5


def ead(texts_PK: list[list[str | None]], vocab_size: int = 50257) -> Tensor:
    """Share of distinct n-grams (n = 1 to 5), adjusted for length | 0 to 1, higher is more diverse | paper, EAD

    The n-grams of a prompt's K texts are pooled: U distinct of T. EAD_n = U / (V (1 - ((V - 1) / V)^T)), what was seen
    over what a uniform draw of T from V would give. With V near 50,000 the adjustment is small at usual lengths, so the
    value still follows length. As in the paper, tokens are split at white space after "." and newlines are deleted.

    Args:
        vocab_size: V, the size of the tokenizer's vocabulary.

    Returns:
        [P], NaN with fewer than two texts.

    >>> ead([["a b c d e", "a b c d e"], ["a b c d e", "f g h i j"], ["alone", None]])
    tensor([0.5000, 1.0000,    nan], dtype=torch.float64)
    """
    there_P = [[text for text in texts if text is not None] for texts in texts_PK]
    return torch.tensor([_pooled(texts, vocab_size) for texts in there_P], dtype=torch.float64)


def _pooled(texts: list[str], vocab_size: int) -> float:
    if len(texts) < 2:
        return float("nan")
    tokens = [text.replace(".", "").replace("\n", "").split() for text in texts]
    total = 0.0
    for n in range(1, _MAX_N + 1):
        seen = set().union(*(zip(*(t[i:] for i in range(n)), strict=False) for t in tokens))
        drawn = sum(max(len(t) - n + 1, 0) for t in tokens)
        if drawn:  # the paper counts an order that has no n-gram as 0
            expected = vocab_size * (1 - ((vocab_size - 1) / vocab_size) ** drawn)
            total += min(len(seen) / expected, 1.0)
    return total / _MAX_N
