"""SBERT and Vendi of answers without what their prompt brings."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from divmon.scoring.metrics import Figure, metric


@metric(
    "SBERT and Vendi without the prompt's direction, beside the paper's",
    figures={
        "sbert_prompt_removed": Figure(
            "Mean cosine distance of pairs of answers without the prompt's direction", range=(0, 2), rank=12
        ),
        "vendi_prompt_removed": Figure(
            "Effective number of distinct answers without the prompt's direction", range=(1, "K"), rank=22
        ),
    },
    source="ours, after paper, SBERT and Vendi",
    on_request=True,
)
def prompt_removed(embeddings_PKD: Tensor, mask_PK: Tensor, prompt_embeddings_PD: Tensor) -> dict[str, Tensor]:
    """SBERT and Vendi without the prompt's direction, beside the paper's.

    Answers to one prompt share its topic, which lifts all their cosines. Each embedding loses its part along the
    embedding of the prompt and is made a unit vector again; then as sbert (mean of 1 - cosine over pairs) and vendi
    (exp of the entropy of the eigenvalues of the Gram matrix over n), over the first K.

    Returns:
        `sbert_prompt_removed`, `vendi_prompt_removed` [P]; NaN below two answers.

    >>> topic, a, b = torch.eye(3)
    >>> e = normalize(torch.stack([topic + a, topic + b]), dim=-1)[None]
    >>> prompt_removed(e, torch.ones(1, 2, dtype=torch.bool), topic[None])["sbert_prompt_removed"].round(decimals=6)
    tensor([1.], dtype=torch.float64)
    """
    rows_PKD, unit_P1D = embeddings_PKD.double(), normalize(prompt_embeddings_PD.double(), dim=-1)[:, None]
    rest_PKD = normalize(rows_PKD - (rows_PKD * unit_P1D).sum(-1, keepdim=True) * unit_P1D, dim=-1)
    rest_PKD = rest_PKD * mask_PK[..., None]
    gram_PKK, n_P = rest_PKD @ rest_PKD.mT, mask_PK.sum(1).double()
    pairs_P = n_P * (n_P - 1)
    distance_P = 1 - (gram_PKK.sum((1, 2)) - gram_PKK.diagonal(dim1=1, dim2=2).sum(1)) / pairs_P
    eigenvalues_PK = torch.linalg.eigvalsh(gram_PKK / n_P.clamp(min=1)[:, None, None]).clamp(min=0)
    share_PK = eigenvalues_PK / eigenvalues_PK.sum(1, keepdim=True).clamp(
        min=1e-12
    )  # of answers along the prompt alone
    vendi_P = torch.special.entr(share_PK).sum(1).exp()
    figures = {"sbert_prompt_removed": distance_P.clamp(0, 2), "vendi_prompt_removed": vendi_P}
    return {name: value_P.where(n_P >= 2, torch.nan) for name, value_P in figures.items()}
