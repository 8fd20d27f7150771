"""How many different answers: semantic entropy over clusters of answers that say the same."""

from __future__ import annotations

import torch
from torch import Tensor

from divmon.scoring.embedding_geometry import without
from divmon.scoring.metrics import Figure, effective_number, entropy, metric, words

THRESHOLD = 0.7
"""Distance below which two answers say the same, where no final answer tells: `recipes/signals/same.py` has the pairs
of short answers that it was fit on, and those that it was judged on (balanced accuracy 0.94)."""
_SIZE = 8


@metric(
    "How many different answers: clusters of the same final answer, else of like meaning and words",
    figures={
        "semantic_entropy": Figure("Entropy of the clusters of answers, nats", range=(0, None), rank=50),
        "effective_answers": Figure(
            "Effective number of different answers among 8, of order 2",
            range=(1, _SIZE),
            rank=52,
            aggregate="harmonic_mean",
        ),
    },
    source="Farquhar et al. 2024; Simpson 1949",
    all_samples=True,
)
def answer_clusters(
    texts_PK: list[list[str | None]],
    embeddings_PKD: Tensor,
    prompt_embeddings_PD: Tensor | None = None,
    answers_PK: list[list[str | None]] | None = None,
    num_samples: int | None = None,
) -> dict[str, Tensor]:
    """How many different answers: clusters of the same final answer, else of like meaning and words.

    Where the verifier took a final answer from two or more of a prompt's samples, those with the same answer are one
    cluster, and samples without one are left out. Else an answer joins the first cluster whose first member is closer
    than `THRESHOLD` (greedily, as Farquhar et al. 2024 do by entailment), by the mean of the cosine distance without
    the prompt's direction and the Jaccard distance of words.

    Returns:
        `semantic_entropy` [P]: -sum p log p of the clusters' shares in the first K, so at most log K, and comparable at
        equal K only. `effective_answers` [P]: with C the share of pairs in one cluster, unbiased for every n,
        8 / (1 + 7 C) (Simpson 1949): 1 where all say the same, 8 where no two do. NaN below two answers.

    >>> e = torch.eye(2)[[0, 1, 0, 0]].reshape(2, 2, 2)
    >>> answer_clusters([["4", "5"], ["it is 4", "it is 4"]], e)["effective_answers"]
    tensor([8., 1.], dtype=torch.float64)
    """
    cluster_PK = []
    for p, texts in enumerate(texts_PK):
        answers = [None] * len(texts) if answers_PK is None else answers_PK[p]
        if sum(answer is not None for answer in answers) >= 2:
            cluster_PK.append(answers)
        else:
            direction_D = None if prompt_embeddings_PD is None else prompt_embeddings_PD[p]
            cluster_PK.append(_alike(texts, without(embeddings_PKD[p], direction_D)))
    entropy_P = [entropy(row[:num_samples]) for row in cluster_PK]
    effective_P = [effective_number(row, _SIZE) for row in cluster_PK]
    return {
        "semantic_entropy": torch.tensor(entropy_P, dtype=torch.float64),
        "effective_answers": torch.tensor(effective_P, dtype=torch.float64),
    }


def distances(texts: list[str], unit_KD: Tensor) -> Tensor:
    """Mean of cosine and Jaccard distance of each pair [K, K]; without words two answers are alike by these."""
    column: dict[str, int] = {}
    places = [(k, column.setdefault(w, len(column))) for k, text in enumerate(texts) for w in set(_words(text))]
    holds_KW = torch.zeros(len(texts), len(column), dtype=torch.float64, device=unit_KD.device)
    if places:
        holds_KW[tuple(torch.tensor(places).T)] = 1
    shared_KK, size_K = holds_KW @ holds_KW.T, holds_KW.sum(1)
    either_KK = size_K[:, None] + size_K - shared_KK
    jaccard_KK = torch.where(either_KK > 0, shared_KK / either_KK.clamp(min=1), 1.0)
    return (2 - unit_KD @ unit_KD.T - jaccard_KK).clamp(min=0) / 2


def _words(text: str) -> list[str]:
    return [word.strip(".,;:!?\"'()*").lower() for word in words(text)]


def _alike(texts: list[str | None], unit_KD: Tensor) -> list[str | None]:
    """By answer the number of its cluster as text; None where there is no answer."""
    there = [k for k, text in enumerate(texts) if text is not None]
    near = distances([texts[k] or "" for k in there], unit_KD[there]) < THRESHOLD
    found: list[str | None] = [None] * len(texts)
    firsts: list[int] = []
    for i, row in enumerate(near.tolist()):
        own = next((c for c, first in enumerate(firsts) if row[first]), len(firsts))
        if own == len(firsts):
            firsts.append(i)
        found[there[i]] = str(own)
    return found
