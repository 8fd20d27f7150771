"""The choice of a token on a GPU: with running sums of integers, and without waiting for the device.

A running sum of floats on a GPU depends on the order in which its parts are added, so torch refuses it where
deterministic algorithms are asked for. Probabilities as multiples of 2^-60 are summed as integers: exactly, in any
order. Nothing here asks the device for a value, so that steps can be queued ahead, or captured in a CUDA graph.
"""

from __future__ import annotations

import torch

SCALE = 2.0**60
"""Of one: the sum of a distribution and its rounding fit a signed 64-bit integer."""
BLOCK = 64
"""Tokens that are summed together."""
CANDIDATES = 1024
"""Tokens that top-p is decided on. Rows that need more are told, not decided."""
BELOW_ONE = 1 - 2.0**-40
"""A uniform of at most this times a sum, rounded to float64, stays below the sum."""


def pick(probs_RV: torch.Tensor, uniform_R: torch.Tensor) -> torch.Tensor:
    """The token [R] at which each row's CDF exceeds its uniform: first its block of tokens, then the token in there.

    Args:
        probs_RV: [rows, vocabulary], float32.
        uniform_R: [rows] in [0, 1), float64.
    """
    blocks_RBC = _in_blocks(probs_RV)
    sums_RB = (blocks_RBC.sum(-1, dtype=torch.float64) * SCALE).long()
    ends_RB = sums_RB.cumsum(-1)
    target_R1 = _target(ends_RB, uniform_R)
    block_R1 = torch.searchsorted(ends_RB, target_R1, right=True).clamp_(max=ends_RB.shape[-1] - 1)
    inside_R1C = blocks_RBC.gather(1, block_R1.unsqueeze(-1).expand(-1, -1, BLOCK))
    ends_RC = (inside_R1C.squeeze(1).double() * SCALE).long().cumsum(-1)
    rest_R1 = target_R1 - (ends_RB - sums_RB).gather(-1, block_R1)
    # Rounding may part a block's sum from that of its tokens by some 2^-60.
    at_R1 = torch.searchsorted(ends_RC, torch.minimum(rest_R1, ends_RC[:, -1:] - 1), right=True)
    return block_R1.mul_(BLOCK).add_(at_R1).clamp_(max=probs_RV.shape[-1] - 1).squeeze(-1)


def pick_of_likeliest(
    probs_RV: torch.Tensor, uniform_R: torch.Tensor, top_p: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The token [R] that each row's uniform picks from the smallest set of likeliest tokens that reaches `top_p`.

    Returns:
        Tokens [R], and bool [R]: whether `CANDIDATES` tokens do not reach `top_p`, so that the row's token is not its.
    """
    values_RC, ids_RC = probs_RV.topk(min(CANDIDATES, probs_RV.shape[-1]), dim=-1)
    ints_RC = (values_RC.double() * SCALE).long()
    before_RC = ints_RC.cumsum(-1).sub_(ints_RC)
    enough = int(top_p * SCALE)
    kept_RC = ints_RC.masked_fill(before_RC >= enough, 0)
    # In the order of token ids, as on a CPU: rounding that swaps two equally likely tokens swaps no intervals.
    ids_RC, by_id = ids_RC.sort(dim=-1)
    ends_RC = kept_RC.gather(-1, by_id).cumsum(-1)
    at_R1 = torch.searchsorted(ends_RC, _target(ends_RC, uniform_R), right=True).clamp_(max=ends_RC.shape[-1] - 1)
    short_R = ends_RC[:, -1] < enough
    if values_RC.shape[-1] == probs_RV.shape[-1]:
        short_R = torch.zeros_like(short_R)  # all tokens are candidates
    return ids_RC.gather(-1, at_R1).squeeze(-1), short_R


def _in_blocks(probs_RV: torch.Tensor) -> torch.Tensor:
    """[rows, blocks, BLOCK], a last block filled up with zeros."""
    if missing := -probs_RV.shape[-1] % BLOCK:
        probs_RV = torch.nn.functional.pad(probs_RV, (0, missing))
    return probs_RV.unflatten(-1, (-1, BLOCK))


def _target(ends_RC: torch.Tensor, uniform_R: torch.Tensor) -> torch.Tensor:
    return (uniform_R.clamp(max=BELOW_ONE).unsqueeze(-1) * ends_RC[:, -1:]).long()
