"""Distinct n-grams."""

from __future__ import annotations

import torch
from torch import Tensor

from divmon.scoring.metrics import Figure, metric, words

_ORDERS = (1, 2, 3, 4)


@metric(
    "Share of n-grams that are distinct, over a prompt's texts",
    figures={
        f"distinct_{n}": Figure(f"Share of {n}-grams that are distinct, over a prompt's texts", range=(0, 1))
        for n in _ORDERS
    },
    source="Li et al. 2016",
)
def distinct_n(texts_PK: list[list[str | None]]) -> dict[str, Tensor]:
    """Share of n-grams that are distinct, over a prompt's texts.

    The n-grams of all K texts are pooled and tokens split at white space, and where a script has no
    spaces each character is one. It falls with more and longer texts, so it
    compares at equal K and similar length only.

    Returns:
        `distinct_1`, `distinct_2`, `distinct_3`, `distinct_4` [P]; NaN with fewer than two texts, or where none is n
        tokens long.

    >>> distinct_n([["a b", "a c"]])["distinct_1"]
    tensor([0.7500], dtype=torch.float64)
    """
    tokens_PK = [[words(text) for text in texts if text is not None] for texts in texts_PK]
    return {
        f"distinct_{n}": torch.tensor([_distinct(tokens_K, n) for tokens_K in tokens_PK], dtype=torch.float64)
        for n in _ORDERS
    }


def _distinct(tokens_K: list[list[str]], n: int) -> float:
    total = sum(max(len(tokens) - n + 1, 0) for tokens in tokens_K)
    if len(tokens_K) < 2 or not total:
        return torch.nan
    return len(set().union(*(zip(*(t[i:] for i in range(n)), strict=False) for t in tokens_K))) / total
