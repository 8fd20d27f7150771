"""Mean pairwise distance of text embeddings."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from divmon.scoring.metrics import Figure, metric

# float64 numbers computed at once: on a CPU more leave its cache and cost several times as much.
_IN_CACHE, _ON_DEVICE = 200_000, 50_000_000


def pairwise(embeddings_PKD: Tensor, mask_PK: Tensor) -> Tensor:
    """Cosine distance of each pair [P, K, K]; NaN where one is masked, and on the diagonal, which is no pair."""
    unit_PKD = normalize(embeddings_PKD.double(), dim=-1)
    distance_PKK = (1 - unit_PKD @ unit_PKD.mT).clamp(min=0)
    pair_PKK = mask_PK[:, :, None] & mask_PK[:, None, :]
    diagonal_KK = torch.eye(mask_PK.shape[1], dtype=torch.bool, device=mask_PK.device)
    return distance_PKK.where(pair_PKK & ~diagonal_KK, torch.nan)


@metric(
    "Mean cosine distance of pairs of answers, by meaning",
    figures={
        "sbert": Figure(range=(0, 2), headline=10, pairwise=True, cosine=True),
        "sbert_correct": Figure(
            "Mean cosine distance of pairs of correct answers, by meaning", range=(0, 2), graded=True
        ),
    },
    source="paper, SBERT",
    all_samples=True,
    pairwise=pairwise,
)
def sbert(embeddings_PKD: Tensor, mask_PK: Tensor, correct_PK: Tensor | None = None) -> dict[str, Tensor]:
    """Mean cosine distance of pairs of answers, by meaning.

    A U-statistic, so sets of different size compare. All pairs at once: with S the sum of n unit vectors, |S|^2 is n
    plus twice the sum of the cosines of pairs.

    Returns:
        `sbert` [P] over all answers, `sbert_correct` [P] over the correct ones where some were graded; NaN below two.

    >>> e = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])
    >>> sbert(e, torch.ones(2, 2, dtype=torch.bool))["sbert"]
    tensor([1., 0.], dtype=torch.float64)
    """
    masks = {"sbert": mask_PK} if correct_PK is None else {"sbert": mask_PK, "sbert_correct": mask_PK & correct_PK}
    mask_PMK = torch.stack(list(masks.values()), 1).double()
    n_PM = mask_PMK.sum(-1)
    cosine_PM = (_squared_lengths(embeddings_PKD, mask_PMK) - n_PM) / (n_PM * (n_PM - 1))
    distance_PM = (1 - cosine_PM).clamp(min=0).where(n_PM >= 2, torch.nan)
    return dict(zip(masks, distance_PM.unbind(1), strict=True))


def _squared_lengths(embeddings_PKD: Tensor, mask_PMK: Tensor) -> Tensor:
    """|S|^2 of the unit vectors of each mask [P, M]."""
    # Unit again in float64: then |S|^2 - n is exact to 1e-15 and identical texts are 0, not 1e-7.
    limit = _IN_CACHE if embeddings_PKD.is_cpu else _ON_DEVICE
    at_once = max(1, limit // max(1, embeddings_PKD[:1].numel()))
    lengths = []
    for rows_PKD, rows_PMK in zip(embeddings_PKD.split(at_once), mask_PMK.split(at_once), strict=True):
        double_PKD = rows_PKD.double()
        norm_PK = torch.linalg.vector_norm(double_PKD, dim=-1).clamp(min=1e-12)
        lengths.append(((rows_PMK / norm_PK[:, None]) @ double_PKD).square().sum(-1))
    return torch.cat(lengths)
