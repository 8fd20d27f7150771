"""What one of two models says of the other's completions: lost modes, and the Kullback-Leibler divergence both ways."""

from __future__ import annotations

from torch import Tensor

from divmon.scoring.metrics import Figure, metric


@metric(
    "What the model now says of the reference's completions, and the reference of its",
    figures={
        "reference_nll": Figure(
            "Negative log-likelihood of the reference's completions under the model now, nats per token",
            range=(0, None),
            diverse="",
            rank=160,
        ),
        "forward_kl": Figure(
            "Divergence KL(reference, now) on the reference's completions, nats per token: modes that were lost",
            range=("-reference_nll", None),
            diverse="",
            rank=162,
        ),
        "reverse_kl": Figure(
            "Divergence KL(now, reference) on completions now, nats per token: how far the model has gone",
            range=("-own_nll", None),
            diverse="",
            rank=164,
        ),
    },
    source="Kullback and Leibler 1951",
    all_samples=True,
)
def cross_entropy(stored_nll_PF: Tensor) -> dict[str, Tensor]:
    """What the model now says of the reference's completions, and the reference of its.

    With y the reference's completions to a prompt and T their tokens, reference_nll = -sum log p_now(y) / T, and
    forward_kl = sum (log p_ref(y) - log p_now(y)) / T, a Monte Carlo estimate of KL(ref, now) per token (Kullback and
    Leibler 1951); reverse_kl is the same with both models changed over. Probabilities are those at temperature 1. The
    estimate is unbiased where samples are drawn at temperature 1 and top-p 1; at 0.6 and 0.95 it is the mean log-ratio
    on what is mostly said, which may be below 0.

    Args:
        stored_nll_PF: [P, 4] nats per token of the reference's completions under the model now and under the reference,
            and of completions now under the model now and under the reference.

    Returns:
        `reference_nll`, `forward_kl`, `reverse_kl` [P]; NaN where not measured.

    >>> import torch
    >>> figures = cross_entropy(torch.tensor([[3.0, 1.0, 0.5, 1.5]], dtype=torch.float64))
    >>> {name: value.item() for name, value in figures.items()}
    {'reference_nll': 3.0, 'forward_kl': 2.0, 'reverse_kl': 1.0}
    """
    lost_P, before_P, own_P, own_before_P = stored_nll_PF.unbind(-1)
    return {"reference_nll": lost_P, "forward_kl": lost_P - before_P, "reverse_kl": own_before_P - own_P}
