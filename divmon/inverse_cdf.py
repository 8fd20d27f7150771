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
        return _invert(probs_RV.cumsum(-1), uniform_R).squeeze(-1)
    tokens_R = torch.empty(len(probs_RV), dtype=torch.long, device=probs_RV.device)
    rows_R = torch.arange(len(probs_RV), device=probs_RV.device)
    candidates = FIRST_CANDIDATES
    # Only a row whose own candidates fall short is sorted further, so that ties are broken the same way in any batch.
    while len(rows_R):
        values, order = probs_RV[rows_R].topk(min(candidates, probs_RV.shape[-1]), dim=-1)
        reached = values.cumsum(-1)
        enough = (reached[:, -1] >= top_p) | (values.shape[-1] == probs_RV.shape[-1])
        # The CDF runs in the order of token ids: in that of probabilities, rounding that swaps two equally likely
        # tokens would swap their whole intervals.
        ids, by_id = order.sort(dim=-1)
        kept = values.masked_fill(reached - values >= top_p, 0.0).gather(-1, by_id)
        picked = ids.gather(-1, _invert(kept.cumsum(-1), uniform_R[rows_R]))
        tokens_R[rows_R[enough]] = picked.squeeze(-1)[enough]
        rows_R, candidates = rows_R[~enough], candidates * 16
    return tokens_R


def _invert(cdf_RC: torch.Tensor, uniform_R: torch.Tensor) -> torch.Tensor:
    """First column [rows, 1] whose CDF exceeds uniform x total: never one of probability zero."""
    total_R1 = cdf_RC[:, -1:]
    target_R1 = (uniform_R.to(cdf_RC.device).unsqueeze(-1) * total_R1.double()).to(cdf_RC.dtype)
    # Rounding to float32 may reach the total itself, beyond which there is nothing left to pick.
    target_R1 = torch.minimum(target_R1, torch.nextafter(total_R1, torch.zeros_like(total_R1)))
    picked_R1 = torch.searchsorted(cdf_RC, target_R1, right=True)
    # NaN, which is reported elsewhere, has no such column; a wrong index on a device would end the process.
    return picked_R1.clamp(max=cdf_RC.shape[-1] - 1)
