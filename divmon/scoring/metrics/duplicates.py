"""Exact duplicates."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from divmon.scoring.metrics import Figure, metric


@metric(
    "Share of pairs of texts that are identical",
    figures={
        "duplicate_pairs": Figure(range=(0, 1), diverse="lower"),
        "distinct_share": Figure("Distinct texts over texts", range=(0, 1), rank=70),
    },
    source="collision probability",
    all_samples=True,
)
def duplicates(texts_PK: list[list[str | None]], num_samples: int | None = None) -> dict[str, Tensor]:
    """Share of pairs of texts that are identical.

    Texts are compared as they are, but for white space at their ends.

    Args:
        num_samples: K; `distinct_share` takes the first K of more samples.

    Returns:
        `duplicate_pairs` [P]: the chance that two samples are the same text, unbiased for every number of samples.
        `distinct_share` [P]: distinct texts over texts, which falls with K. NaN with fewer than two texts.

    >>> duplicates([["4", "4", "5"], ["4", "5", None]])["duplicate_pairs"]
    tensor([0.3333, 0.0000], dtype=torch.float64)
    """
    counts_P = [Counter(text.strip() for text in texts if text is not None) for texts in texts_PK]
    first_P = [Counter(text.strip() for text in texts[:num_samples] if text is not None) for texts in texts_PK]
    return {
        "duplicate_pairs": torch.tensor([_pairs(counts) for counts in counts_P], dtype=torch.float64),
        "distinct_share": torch.tensor([_share(counts) for counts in first_P], dtype=torch.float64),
    }


def _pairs(counts: Counter[str]) -> float:
    n = counts.total()
    return sum(c * (c - 1) for c in counts.values()) / (n * (n - 1)) if n >= 2 else torch.nan


def _share(counts: Counter[str]) -> float:
    n = counts.total()
    return len(counts) / n if n >= 2 else torch.nan
