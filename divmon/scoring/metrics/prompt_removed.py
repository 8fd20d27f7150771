"""SBERT and Vendi of answers without what their prompt brings."""

from __future__ import annotations

import torch
from torch import Tensor

from divmon.scoring.embedding_geometry import vendi_order1, without
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
        `sbert_prompt_removed`, `vendi_prompt_removed` [P]; NaN below two answers that have a part beside the
        prompt.

    >>> topic, a, b = torch.eye(3)
    >>> e = torch.nn.functional.normalize(torch.stack([topic + a, topic + b]), dim=-1)[None]
    >>> prompt_removed(e, torch.ones(1, 2, dtype=torch.bool), topic[None])["sbert_prompt_removed"].round(decimals=6)
    tensor([1.], dtype=torch.float64)
    """
    rest_PKD = without(embeddings_PKD, prompt_embeddings_PD)
    mask_PK = mask_PK & rest_PKD.any(-1)
    gram_PKK, n_P = rest_PKD @ rest_PKD.mT, mask_PK.sum(1).double()
    pair_PKK = (mask_PK[:, :, None] & mask_PK[:, None, :]).double()
    cosine_P = ((gram_PKK * pair_PKK).sum((1, 2)) - n_P) / (n_P * (n_P - 1))
    return {
        "sbert_prompt_removed": (1 - cosine_P).clamp(0, 2).where(n_P >= 2, torch.nan),
        "vendi_prompt_removed": vendi_order1(gram_PKK, mask_PK),
    }
