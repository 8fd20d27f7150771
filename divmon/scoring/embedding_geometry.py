"""What several metrics make of embeddings: the effective number by eigenvalues, and vectors without a direction."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def vendi_order1(gram_PKK: Tensor, mask_PK: Tensor) -> Tensor:
    """exp of the entropy of the eigenvalues of each prompt's cosines over n [P]; NaN below two answers.

    Args:
        gram_PKK: cosines, 1 on the diagonal; what is masked does not count.
    """
    n_P = mask_PK.sum(1)
    present_PKK = mask_PK[:, :, None] & mask_PK[:, None, :]
    eigenvalues_PK = torch.linalg.eigvalsh(gram_PKK * present_PKK / n_P.clamp(min=1)[:, None, None])
    # Rounding leaves eigenvalues of -1e-17; a masked row adds a zero one, which has no entropy.
    entropy_P = torch.special.entr(eigenvalues_PK.clamp(min=0)).sum(-1)
    return entropy_P.exp().where(n_P >= 2, torch.nan)


def without(embeddings_KD: Tensor, direction_D: Tensor | None) -> Tensor:
    """Float64 unit vectors [..., K, D] without their part along a direction [..., D]; all of them where there is none,
    zero where nothing else is left."""
    rows_KD = embeddings_KD.double()
    if direction_D is not None:
        unit_1D = normalize(direction_D.double(), dim=-1).unsqueeze(-2)
        rows_KD = rows_KD - (rows_KD * unit_1D).sum(-1, keepdim=True) * unit_1D
    return normalize(rows_KD, dim=-1)
