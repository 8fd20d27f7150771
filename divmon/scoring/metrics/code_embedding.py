"""Embedding diversity of programs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from divmon.scoring.embedding_geometry import vendi_order1
from divmon.scoring.metrics import Figure, metric


def pairwise(code_embeddings_PKD: Tensor, program_mask_PK: Tensor) -> Tensor:
    """Cosine distance of each pair of programs [P, K, K]; NaN where one is masked, and on the diagonal."""
    unit_PKD = normalize(code_embeddings_PKD.double(), dim=-1)
    distance_PKK = (1 - unit_PKD @ unit_PKD.mT).clamp(min=0)
    pair_PKK = program_mask_PK[:, :, None] & program_mask_PK[:, None, :]
    diagonal_KK = torch.eye(program_mask_PK.shape[1], dtype=torch.bool, device=program_mask_PK.device)
    return distance_PKK.where(pair_PKK & ~diagonal_KK, torch.nan)


@metric(
    "SBERT and Vendi of (correct) programs by a code encoder",
    figures={
        "code_sbert": Figure(
            "Mean cosine distance of pairs of (correct) programs, by a code encoder",
            range=(0, 2),
            rank=80,
            pairwise=True,
            cosine=True,
            graded=True,
        ),
        "code_vendi": Figure(
            "Effective number of distinct (correct) programs, by a code encoder", range=(1, "K"), rank=90, graded=True
        ),
    },
    source="paper",
    all_samples=True,
    pairwise=pairwise,
)
def code_embedding(
    code_embeddings_PKD: Tensor,
    program_mask_PK: Tensor,
    correct_PK: Tensor | None = None,
    num_samples: int | None = None,
) -> dict[str, Tensor]:
    """SBERT and Vendi of (correct) programs by a code encoder.

    Wrong and ungraded programs are left out where some were graded.

    Args:
        num_samples: K; Vendi takes the first K of more samples.

    Returns:
        `code_sbert` [P]: mean cosine distance of pairs, 0 to 2, unbiased for every number of programs. `code_vendi`
        [P]: effective number of programs, 1 to their number, not comparable where that differs. NaN below two programs.

    >>> e = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    >>> code_embedding(e, torch.ones(1, 2, dtype=torch.bool))
    {'code_sbert': tensor([1.], dtype=torch.float64), 'code_vendi': tensor([2.], dtype=torch.float64)}
    """
    mask_PK = program_mask_PK if correct_PK is None else program_mask_PK & correct_PK
    distance_PKK = pairwise(code_embeddings_PKD, mask_PK)
    similarity_PKK = (1 - distance_PKK).nan_to_num(0)[:, :num_samples, :num_samples] + torch.diag_embed(
        mask_PK[:, :num_samples].double()
    )
    vendi_P = vendi_order1(similarity_PKK, mask_PK[:, :num_samples])
    return {"code_sbert": distance_PKK.nanmean((1, 2)), "code_vendi": vendi_P}
