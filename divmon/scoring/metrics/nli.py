"""Diversity by natural language inference."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from itertools import combinations

import torch
from torch import Tensor

from divmon.scoring.metrics import Figure, metric

Classifier = Callable[[list[tuple[str, str]]], Tensor]
_SENTENCE_END = re.compile(r"[.!?]+\s+|\n+")


def pairwise(
    prose_PK: list[list[str | None]], classify_nli: Classifier, nli_sentences: int | None = None, seed: int = 0
) -> Tensor:
    """NLI distance of each pair of texts [P, K, K], the mean over its aligned sentences; NaN where there is none."""
    width = max((len(texts) for texts in prose_PK), default=0)
    distance_PKK = torch.full((len(prose_PK), width, width), torch.nan, dtype=torch.float64)
    for p, pairs in enumerate(_scores(prose_PK, classify_nli, nli_sentences, seed)):
        for (i, j), scores in pairs.items():
            if scores:
                distance_PKK[p, i, j] = distance_PKK[p, j, i] = 1 - sum(scores) / len(scores)
    return distance_PKK


@metric(
    "How far answers contradict one another (0: entailing; 1: neutral; 2: contradicting)",
    figures={"nli": Figure(range=(0, 2), rank=50, pairwise=True)},
    source="paper, NLI",
    pairwise=pairwise,
)
def nli(
    prose_PK: list[list[str | None]], classify_nli: Classifier, nli_sentences: int | None = None, seed: int = 0
) -> Tensor:
    """How far answers contradict one another (0: entailing; 1: neutral; 2: contradicting).

    1 minus the mean over aligned sentences of P(entailment) - P(contradiction), each pair read both ways. For two texts
    the sentences at equal positions are aligned, up to the shorter text. Not for code.

    Args:
        nli_sentences: how many aligned sentences of two texts are sampled (the paper takes three); None for all.
            Sampled by `seed` and the two texts alone, so that neither the order of samples nor the other prompts
            matter.

    Returns:
        [P], NaN with fewer than two texts that hold a sentence.

    >>> entailed = lambda pairs: torch.tensor([[float(a != b), 0.0, float(a == b)] for a, b in pairs])
    >>> nli([["Yes.", "No."], ["Yes. It is.", "Yes. It is not."], ["Yes.", None]], entailed)
    tensor([2., 1., nan], dtype=torch.float64)
    """
    scores_P = _scores(prose_PK, classify_nli, nli_sentences, seed)
    pooled = [[score for pair in pairs.values() for score in pair] for pairs in scores_P]
    return torch.tensor([1 - sum(p) / len(p) if p else torch.nan for p in pooled], dtype=torch.float64)


def _scores(
    prose_PK: list[list[str | None]], classify: Classifier, count: int | None, seed: int
) -> list[dict[tuple[int, int], list[float]]]:
    """Per prompt and pair of texts: P(entailment) - P(contradiction) of the aligned sentences, mean of both ways."""
    aligned_P = [dict(_aligned(texts, count, seed)) for texts in prose_PK]
    ordered = {
        pair: None for aligned in aligned_P for pairs in aligned.values() for a, b in pairs for pair in ((a, b), (b, a))
    }  # each distinct ordered pair is classified once
    if not ordered:
        return [{} for _ in prose_PK]
    probabilities = classify(list(ordered)).double().cpu()
    agreement = dict(zip(ordered, (probabilities[:, 2] - probabilities[:, 0]).tolist(), strict=True))
    return [
        {ij: [(agreement[a, b] + agreement[b, a]) / 2 for a, b in pairs] for ij, pairs in aligned.items()}
        for aligned in aligned_P
    ]


def _aligned(
    texts: list[str | None], count: int | None, seed: int
) -> Iterator[tuple[tuple[int, int], list[tuple[str, str]]]]:
    sentences = {
        k: [s.strip() for s in _SENTENCE_END.split(text) if s.strip()]
        for k, text in enumerate(texts)
        if text is not None
    }
    known: dict[tuple[str | None, str | None], list[tuple[str, str]]] = {}  # copies are aligned once
    for i, j in combinations(sentences, 2):
        pairs = known.get((texts[i], texts[j]))
        if pairs is None:
            pairs = list(zip(sentences[i], sentences[j], strict=False))
            if count is not None and len(pairs) > count:
                first, second = sorted((texts[i] or "", texts[j] or ""))
                drawn = random.Random(f"{seed}\0{first}\0{second}").sample(range(len(pairs)), count)
                pairs = [pairs[position] for position in drawn]
            known[texts[i], texts[j]] = pairs
        yield (i, j), pairs
