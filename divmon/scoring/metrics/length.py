"""Length of the completions."""

from __future__ import annotations

import torch
from torch import Tensor

from divmon.scoring.metrics import Figure, metric, words


@metric(
    "Mean length of the completions",
    figures={
        "length_words": Figure("Mean length of the answers, words", range=(0, None), diverse=""),
        "length_tokens": Figure("Mean length of the completions, new tokens", range=(0, None), diverse=""),
    },
    source="counts",
    all_samples=True,
)
def length(texts_PK: list[list[str | None]], lengths_PK: Tensor | None = None) -> dict[str, Tensor]:
    """Mean length of the completions, with which lexical metrics move.

    Returns:
        `length_words` [P]: words of the answers, split at white space. `length_tokens` [P], where known: new tokens of
        all completions, with their reasoning, truncated ones too. NaN where there is nothing to count.

    >>> length([["one two", "one"], [None, None]])["length_words"]
    tensor([1.5000,    nan], dtype=torch.float64)
    """
    words_PK = [[len(words(text)) for text in texts if text is not None] for texts in texts_PK]
    mean_P = [sum(words) / len(words) if words else torch.nan for words in words_PK]
    figures = {"length_words": torch.tensor(mean_P, dtype=torch.float64)}
    if lengths_PK is not None:
        figures["length_tokens"] = lengths_PK.double().nanmean(1)
    return figures
