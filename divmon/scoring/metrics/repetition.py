"""Repetition within a text."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from divmon.scoring.metrics import Figure, metric

_N = 4
# Scripts written without spaces (Thai to Lao, kana, Han, Hangul) letter by letter; a word of more than 12 letters in
# pieces, so that one letter without end repeats as well.
_WORD = re.compile(r"[^\W\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{1,12}|\S")


@metric(
    "Share of a text that repeats itself, in runs of 4 words",
    figures={"repetition": Figure(range=(0, 1), diverse="", better="lower")},
    source="Welleck et al. 2020",
    all_samples=True,
)
def repetition(texts_PK: list[list[str | None]]) -> Tensor:
    """Share of a text that repeats itself, in runs of 4 words: no diversity, but loops.

    A word counts where the 4 words that end with it stood in the same text before. Other samples play no part, so that
    answers that grow alike leave it as it is; a model caught in a loop comes near 1.

    Returns:
        [P], the mean over texts that are not empty; NaN with fewer than two.

    >>> repetition([["on and on " * 20, "said once and for all"]]).round(decimals=2)
    tensor([0.4500], dtype=torch.float64)
    """
    shares_PK = [[_share(text) for text in texts if text is not None and text.strip()] for texts in texts_PK]
    means_P = [sum(shares) / len(shares) if len(shares) > 1 else torch.nan for shares in shares_PK]
    return torch.tensor(means_P, dtype=torch.float64)


def _share(text: str) -> float:
    words = _WORD.findall(text)
    runs = list(zip(*(words[i:] for i in range(_N)), strict=False))
    return (len(runs) - len(set(runs))) / len(words)
