"""Mean pairwise distance of text embeddings."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

USES_ALL_SAMPLES = True
COST = "encoder"


def sbert(embeddings_PKD: Tensor, mask_PK: Tensor, correct_PK: Tensor | None = None) -> dict[str, Tensor]:
    """Mean cosine distance of pairs of answers, by meaning | 0 to 2, higher is more diverse | paper, SBERT

    A U-statistic, so sets of different size compare. All pairs at once: with S the sum of n unit vectors, |S|^2 is n
    plus twice the sum of the cosines of pairs.

    Returns:
        `sbert` [P] over all answers, `sbert_correct` [P] over the correct ones where verdicts exist; NaN below two.

    >>> e = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])
    >>> sbert(e, torch.ones(2, 2, dtype=torch.bool))["sbert"]
    tensor([1., 0.], dtype=torch.float64)
    """
    figures = {"sbert": _mean_distance(embeddings_PKD, mask_PK)}
    if correct_PK is not None:
        figures["sbert_correct"] = _mean_distance(embeddings_PKD, mask_PK & correct_PK)
    return figures


def pairwise(embeddings_PKD: Tensor, mask_PK: Tensor) -> Tensor:
    """Cosine distance of each pair [P, K, K]; NaN where one is masked, and on the diagonal, which is no pair."""
    unit_PKD = normalize(embeddings_PKD.double(), dim=-1)
    distance_PKK = (1 - unit_PKD @ unit_PKD.mT).clamp(min=0)
    pair_PKK = mask_PK[:, :, None] & mask_PK[:, None, :]
    diagonal_KK = torch.eye(mask_PK.shape[1], dtype=torch.bool, device=mask_PK.device)
    return distance_PKK.where(pair_PKK & ~diagonal_KK, torch.nan)


def _mean_distance(embeddings_PKD: Tensor, mask_PK: Tensor) -> Tensor:
    # Unit again in float64: then |S|^2 - n is exact to 1e-15 and identical texts are 0, not 1e-7.
    sum_PD = (normalize(embeddings_PKD.double(), dim=-1) * mask_PK[..., None]).sum(1)
    n_P = mask_PK.sum(1).double()
    cosine_P = (sum_PD.square().sum(-1) - n_P) / (n_P * (n_P - 1))
    return (1 - cosine_P).clamp(min=0).where(n_P >= 2, torch.nan)
