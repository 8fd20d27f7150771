"""Randomness that belongs to a sample: one uniform a token, turned into a token by the inverse of the CDF.

A uniform depends on (seed, step, task, prompt id, sample number) and the token's position alone, so a sample is the
same in whatever batch, order or process it is drawn, beyond the rounding of the logits. No global generator is touched.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

FIRST_CANDIDATES = 64
"""Tokens sorted for top-p at first. Most rows hold 95 percent in fewer; those that do not are sorted again."""


def uniforms(key: tuple[object, ...], length: int) -> np.ndarray:
    """`length` uniforms in [0, 1), float64, that only `key` decides.

    Philox is counter based: the stream of a key is the same on every machine and numpy version since 1.17.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest, dtype=np.uint64))).random(length)


def choose(logits_RV: torch.Tensor, uniform_R: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """The token that each row's uniform picks from its distribution.

    Temperature, then top-p as in Holtzman et al. 2020 and `transformers.TopPLogitsWarper` (the smallest set of most
    likely tokens whose probability reaches `top_p`), then the inverse CDF.

    Args:
        logits_RV: [rows, vocabulary], any float type.
        uniform_R: [rows] in [0, 1), float64.
        temperature: above 0, or 0 for greedy.
        top_p: in (0, 1]; 1 keeps every token.

    Returns:
        Token ids [rows].
    """
    if temperature == 0:
        return logits_RV.argmax(-1)
    probs_RV = torch.softmax(logits_RV.float() / temperature, dim=-1)
    if top_p >= 1:
        cdf_RV = probs_RV.cumsum(-1)
        return _invert(cdf_RV, cdf_RV[:, -1], uniform_R)
    tokens_R = torch.empty(len(probs_RV), dtype=torch.long, device=probs_RV.device)
    rows_R = torch.arange(len(probs_RV), device=probs_RV.device)
    candidates = FIRST_CANDIDATES
    # Only a row whose own candidates fall short is sorted further, so that ties are broken the same way in any batch.
    while len(rows_R):
        values, order = probs_RV[rows_R].topk(min(candidates, probs_RV.shape[-1]), dim=-1)
        cdf = values.cumsum(-1)
        enough = (cdf[:, -1] >= top_p) | (values.shape[-1] == probs_RV.shape[-1])
        kept = ((cdf - values) < top_p).sum(-1, keepdim=True)
        picked = _invert(cdf, cdf.gather(-1, kept - 1).squeeze(-1), uniform_R[rows_R])
        tokens = order.gather(-1, picked.unsqueeze(-1)).squeeze(-1)
        tokens_R[rows_R[enough]] = tokens[enough]
        rows_R, candidates = rows_R[~enough], candidates * 16
    return tokens_R


def _invert(cdf_RC: torch.Tensor, total_R: torch.Tensor, uniform_R: torch.Tensor) -> torch.Tensor:
    """First column whose CDF exceeds uniform x total: never one of probability zero."""
    target_R = (uniform_R.to(cdf_RC.device) * total_R.double()).to(cdf_RC.dtype)
    # Rounding to float32 may reach the total itself, beyond which there is nothing left to pick.
    target_R = torch.minimum(target_R, torch.nextafter(total_R, torch.zeros_like(total_R)))
    return torch.searchsorted(cdf_RC, target_R.unsqueeze(-1), right=True).squeeze(-1)
