"""How sure the model is of its own tokens, while it samples."""

from __future__ import annotations

import torch
from torch import Tensor

from divmon.scoring.metrics import Figure, metric


@metric(
    "How sure the model is of its own tokens, at temperature 1 and before top-p",
    figures={
        "token_entropy": Figure("Mean entropy of the model's next token, nats", range=(0, None), rank=150),
        "forking_tokens": Figure("Share of tokens with more than 0.672 nats of entropy", range=(0, 1), rank=152),
        "top1_mass": Figure("Mean probability of the likeliest next token", range=(0, 1), diverse="lower", rank=154),
        "own_nll": Figure("Negative log-likelihood of the model's own samples, nats per token", range=(0, None)),
    },
    source="Shannon 1948; forking tokens: Wang et al. 2025",
    all_samples=True,
)
def token_entropy(likelihood_PKF: Tensor, lengths_PK: Tensor) -> dict[str, Tensor]:
    """How sure the model is of its own tokens, at temperature 1 and before top-p.

    Means over all recorded tokens of a prompt, with their reasoning, so a longer completion weighs more. A token's
    entropy is -sum p log p over the vocabulary (Shannon 1948); a forking token has more than 0.672 nats of it (the 80th
    percentile in Wang et al. 2025, arXiv:2506.01939). Texts are those that were drawn, so of a model sampled at
    temperature 0.6 these are its distributions at temperature 1 along samples of temperature 0.6.

    Returns:
        `token_entropy`, `own_nll` (nats), `forking_tokens`, `top1_mass` [P]; NaN where no token was recorded.

    >>> facts = torch.tensor([[[1.0, 1.0, 0.5, 0.7], [0.0, 0.0, 1.0, 0.0]]], dtype=torch.float64)
    >>> token_entropy(facts, torch.tensor([[3.0, 1.0]]))["token_entropy"]
    tensor([0.7500], dtype=torch.float64)
    """
    known_PK = ~likelihood_PKF.isnan().any(-1) & ~lengths_PK.isnan()
    tokens_PK = torch.where(known_PK, lengths_PK.double(), 0.0)
    sum_PF = (likelihood_PKF.nan_to_num() * tokens_PK[..., None]).sum(1)
    mean_PF = sum_PF / tokens_PK.sum(1, keepdim=True).where(tokens_PK.sum(1, keepdim=True) > 0, torch.nan)
    return dict(zip(("token_entropy", "forking_tokens", "top1_mass", "own_nll"), mean_PF.unbind(-1), strict=True))
