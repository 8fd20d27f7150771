"""Expectation-adjusted distinct n-grams."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor

from divmon.scoring.metrics import Figure, metric, words

_MAX_N = 5


@metric(
    "Share of distinct n-grams (n = 1 to 5), adjusted for length",
    figures={"ead": Figure(range=(0, 1), headline=60)},
    source="paper, EAD",
)
def ead(texts_PK: list[list[str | None]], vocab_size: int = 50257) -> Tensor:
    """Share of distinct n-grams (n = 1 to 5), adjusted for length.

    The n-grams of a prompt's K texts are pooled: U distinct of T. EAD_n = U / (V (1 - ((V - 1) / V)^T)), what was seen
    over what a uniform sample of T from V would give. With V near 50,000 the adjustment is small at usual lengths, so
    the value still follows length. As in the paper, tokens are split at white space after "." and newlines are deleted;
    where a script has no spaces each character is a token.

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
    copies = Counter(texts)  # a copy adds n-grams, but none that is new
    tokens_N = [words(text.replace(".", "").replace("\n", "")) for text in copies]
    # n-grams of each text, for n = 1 to 5
    grams_NO = np.maximum(np.array([[len(tokens)] for tokens in tokens_N]) - np.arange(_MAX_N), 0)
    drawn_O = list(copies.values()) @ grams_NO
    total = 0.0
    for seen, drawn in zip(_distinct(tokens_N, grams_NO.sum(0)), drawn_O.tolist(), strict=True):
        if drawn:  # the paper counts an order that has no n-gram as 0
            expected = vocab_size * (1 - ((vocab_size - 1) / vocab_size) ** drawn)
            total += min(seen / expected, 1.0)
    return total / _MAX_N


def _distinct(tokens_N: list[list[str]], within_O: Any) -> list[int]:
    """Distinct n-grams of the texts together, for n = 1 to 5.

    The texts stand in one row, each ended by a token of its own. An n-gram over such an end is like no other, so those
    are counted by their places and taken off.

    Args:
        within_O: places of n-grams within the texts.
    """
    row: list[str | int] = []
    for end, tokens in enumerate(tokens_N):
        row += tokens
        row.append(end)
    number: defaultdict[str | int, int] = defaultdict(count().__next__)
    word_T = np.fromiter(map(number.__getitem__, row), np.int64, len(row))
    gram_T, kinds = word_T, len(number)
    found = [kinds - len(tokens_N)]
    for n in range(2, _MAX_N + 1):
        if kinds * len(number) >= 2**63:
            distinct, gram_T = np.unique(gram_T, return_inverse=True)
            kinds = len(distinct)
        gram_T, kinds = gram_T[:-1] * len(number) + word_T[n - 1 :], kinds * len(number)
        sorted_T = np.sort(gram_T)
        over_ends = len(sorted_T) - int(within_O[n - 1])
        found.append(1 + int(np.count_nonzero(sorted_T[1:] != sorted_T[:-1])) - over_ends)
    return found
