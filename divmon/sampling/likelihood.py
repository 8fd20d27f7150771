"""How sure the model is of what it says: entropy, top-1 probability and negative log-likelihood of tokens.

At temperature 1 and before top-p, whatever samples are drawn with: a temperature of 0.6 hides what the model still
holds possible, and top-p cuts it off.
"""

from __future__ import annotations

import torch

from divmon.types import Likelihood

FORKING = 0.672
"""Nats of entropy above which a token is a fork: the 80th percentile over a reasoning model's tokens in Wang et al.
2025 (arXiv:2506.01939), just below an even choice between two tokens (ln 2)."""
AT_ONCE = 1 << 18
"""Logits worked on together on a CPU: two buffers of them stay in its cache."""
RULED_OUT = -100.0
"""Below the likeliest token by so many nats, a token adds less than 1e-40 to any of the sums."""


def token_likelihood(logits_RV: torch.Tensor, token_R: torch.Tensor) -> torch.Tensor:
    """Of each row's distribution at temperature 1: its entropy (nats), its largest probability, and the negative
    log-likelihood (nats) of the token.

    With y the logits less their maximum, e = exp(y) and Z = sum e: entropy = log Z - sum(e y) / Z, the largest
    probability is 1 / Z, and the negative log-likelihood log Z - y[token].

    Args:
        logits_RV: [rows, vocabulary], any float type; minus infinity rules a token out.
        token_R: ids [rows].

    Returns:
        float32 [rows, 3].

    >>> token_likelihood(torch.zeros(1, 4), torch.tensor([2])).tolist()[0][1:]
    [0.25, 1.3862943649291992]
    """
    on_cpu = logits_RV.device.type == "cpu"
    rows = max(1, AT_ONCE // logits_RV.shape[-1]) if on_cpu else max(1, len(logits_RV))
    room_RV = logits_RV.new_empty(min(rows, len(logits_RV)), logits_RV.shape[-1], dtype=torch.float32)
    found = []
    for some_RV, token_r in zip(logits_RV.split(rows), token_R.split(rows), strict=True):
        less_RV = some_RV.float() - some_RV.amax(-1, keepdim=True)
        exp_RV = torch.exp(less_RV, out=room_RV[: len(some_RV)])
        total_R, product_R = exp_RV.sum(-1), torch.linalg.vecdot(exp_RV, less_RV)
        # 0 times minus infinity; on a device, to look would wait for it.
        if not on_cpu or not bool(product_R.isfinite().all()):
            product_R = torch.linalg.vecdot(exp_RV, less_RV.clamp(min=RULED_OUT))
        log_R = total_R.log()
        of_token_R = less_RV.gather(-1, token_r.unsqueeze(-1)).squeeze(-1)
        found.append(torch.stack([log_R - product_R / total_R, 1 / total_R, log_R - of_token_R], -1))
    return torch.cat(found)


def recorded(num_samples: int) -> int:
    """Of a prompt's samples, so many of the first have their tokens' likelihood recorded: an eighth.

    Of all it took up to a fifth of the time of sampling, of a model so small that its vocabulary is most of it.
    """
    return max(1, num_samples // 8)


def of_sample(tokens_T3: torch.Tensor) -> Likelihood | None:
    """Means over the tokens of one completion; None where it has none or they are not known.

    Args:
        tokens_T3: as `token_likelihood` gives them, NaN where it was not asked.
    """
    if not len(tokens_T3) or bool(tokens_T3.isnan().any()):
        return None
    entropy_T, top1_T, nll_T = tokens_T3.double().unbind(-1)
    forking = (entropy_T > FORKING).double().mean()
    return Likelihood(*(float(mean) for mean in (entropy_T.mean(), forking, top1_T.mean(), nll_T.mean())))
