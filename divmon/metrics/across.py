"""Diversity across prompts."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn.functional import normalize

ACROSS_PROMPTS = True
COST = "encoder"

_MAX_N = 5
_TIE = 1e-6  # cosines closer than float32 embeddings can tell apart


def across(
    texts_PK: list[list[str | None]], embeddings_PKD: Tensor, mask_PK: Tensor, vocab_size: int = 50257
) -> dict[str, Tensor]:
    """Diversity between prompts, and whether answers can be traced to theirs | higher is more diverse | paper

    Within a prompt answers may stay apart while the answers to all prompts become one style. `across_*` take the first
    answer of each prompt as one set. For tracing, each answer is compared by cosine with the mean embedding of every
    prompt's answers, its own prompt's without itself.

    Returns:
        0-d figures, NaN below two prompts. `across_ead`, `across_sbert`, `across_vendi`: as ead, sbert and vendi; Vendi
        goes up to the number of prompts. `traced`: share of answers nearest to their own prompt,
        0 to 1, over prompts with two or more; ties are shared. `traced_chance`: 1 over the number of those prompts.

    >>> e = torch.eye(2)[[0, 0, 1, 1]].reshape(2, 2, 2)
    >>> across([["a", "a"], ["b", "b"]], e, torch.ones(2, 2, dtype=torch.bool))["traced"]
    tensor(1., dtype=torch.float64)
    """
    firsts = [next((text for text in texts if text is not None), None) for texts in texts_PK]
    answered_P = mask_PK.any(1)
    first_PD = embeddings_PKD[torch.arange(len(mask_PK)), mask_PK.int().argmax(1)][answered_P]
    gram_PP = _gram(first_PD)
    n = len(gram_PP)
    figures = {
        "across_ead": _ead([text for text in firsts if text is not None], vocab_size),
        "across_sbert": 1 - (gram_PP.sum().item() - n) / (n * (n - 1)) if n >= 2 else torch.nan,
        "across_vendi": _vendi(gram_PP) if n >= 2 else torch.nan,
        **_traced(embeddings_PKD, mask_PK),
    }
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in figures.items()}


def _gram(embeddings_PD: Tensor) -> Tensor:
    unit_PD = normalize(embeddings_PD.double(), dim=-1)
    return unit_PD @ unit_PD.T


def _vendi(gram_PP: Tensor) -> float:
    eigenvalues_P = torch.linalg.eigvalsh(gram_PP / len(gram_PP)).clamp(min=0)
    return torch.special.entr(eigenvalues_P).sum().exp().item()


def _traced(embeddings_PKD: Tensor, mask_PK: Tensor) -> dict[str, float]:
    enough_P = mask_PK.sum(1) >= 2
    embeddings_PKD, mask_PK = embeddings_PKD[enough_P], mask_PK[enough_P]
    prompts = len(mask_PK)
    if prompts < 2:
        return {"traced": torch.nan, "traced_chance": torch.nan}
    sum_PD = (embeddings_PKD * mask_PK[..., None]).sum(1)
    cosine_PKQ = embeddings_PKD @ normalize(sum_PD, dim=-1).T
    others_PKD = normalize(sum_PD[:, None, :] - embeddings_PKD, dim=-1)
    own_PK = (embeddings_PKD * others_PKD).sum(-1)
    itself = torch.arange(prompts, device=mask_PK.device)
    cosine_PKQ[itself, :, itself] = own_PK
    # Equal cosines, as when all answers are one text, count as a draw among them and not as the first prompt's.
    best_PK = cosine_PKQ.amax(-1) - _TIE
    credit_PK = (own_PK >= best_PK) / (cosine_PKQ >= best_PK[..., None]).sum(-1)
    return {"traced": credit_PK[mask_PK].double().mean().item(), "traced_chance": 1 / prompts}


def _ead(texts: list[str], vocab_size: int) -> float:
    if len(texts) < 2:
        return torch.nan
    total = 0.0
    for hashes in zip(*(_ngrams(text) for text in texts), strict=True):
        pool = torch.cat(hashes)
        if len(pool):
            expected = vocab_size * (1 - ((vocab_size - 1) / vocab_size) ** len(pool))
            total += min(len(pool.unique()) / expected, 1.0)
    return total / _MAX_N


@functools.lru_cache(maxsize=1024)
def _ngrams(text: str) -> tuple[Tensor, ...]:
    """Hashed n-grams, n = 1 to 5. Kept, because a jackknife over prompts asks for each text once a prompt."""
    tokens = text.replace(".", "").replace("\n", "").split()
    return tuple(
        torch.tensor([hash(gram) for gram in zip(*(tokens[i:] for i in range(n)), strict=False)], dtype=torch.int64)
        for n in range(1, _MAX_N + 1)
    )
