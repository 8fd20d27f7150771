"""Randomness that belongs to a sample: one uniform a token, turned into a token by the inverse of the CDF.

A uniform depends on (seed, step, task, prompt id, sample number) and the token's position alone, so a sample is the
same in whatever batch, order or process it is drawn, beyond the rounding of the logits. No global generator is touched.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from divmon.sampling import devices, integer_cdf

FIRST_CANDIDATES = 64
"""Tokens sorted for top-p. Most rows of a trained model hold 95 percent in fewer; those that do not are searched."""
BLOCK = 64
"""Tokens that are summed, or searched for their likeliest, together."""
MARGIN = 2.0**-20
"""Bounds the rounding of a sum of blocks in float32, and of the running sum itself."""
AT_ONCE = 1 << 20
"""Probabilities worked on together on a CPU: they stay in its cache, and freshly mapped memory costs more than sums."""


def uniforms(key: tuple[object, ...], length: int) -> np.ndarray:
    """`length` uniforms in [0, 1), float64, that only `key` decides.

    Philox is counter based: the stream of a key is the same on every machine and numpy version since 1.17.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest, dtype=np.uint64))).random(length)


def choose(
    logits_RV: torch.Tensor,
    uniform_R: torch.Tensor,
    temperature: float,
    top_p: float,
    undecided: torch.Tensor | None = None,
) -> torch.Tensor:
    """The token that each row's uniform picks from its distribution.

    Temperature, then top-p as in Holtzman et al. 2020 and `transformers.TopPLogitsWarper` (the smallest set of most
    likely tokens whose probability reaches `top_p`), then the inverse CDF.

    Args:
        logits_RV: [rows, vocabulary], any float type.
        uniform_R: [rows] in [0, 1), float64.
        temperature: above 0, or 0 for greedy.
        top_p: in (0, 1]; 1 keeps every token.
        undecided: bool, set where a row is too flat to choose its token without waiting for the device; None waits.

    Returns:
        Token ids [rows].
    """
    if temperature == 0:
        return logits_RV.argmax(-1)
    if devices.sums_integers(logits_RV.device):
        probs_RV = torch.softmax(logits_RV.float() / temperature, dim=-1)
        return _choose_queued(probs_RV, uniform_R, top_p, undecided)
    rows = max(1, AT_ONCE // logits_RV.shape[-1]) if logits_RV.device.type == "cpu" else max(1, len(logits_RV))
    logits, rooms = logits_RV.split(rows), logits_RV.new_empty(2, rows, logits_RV.shape[-1], dtype=torch.float32)
    probs = (_probabilities(some_RV, temperature, rooms[:, : len(some_RV)]) for some_RV in logits)
    return torch.cat([_choose(*some, top_p) for some in zip(probs, uniform_R.split(rows), strict=True)])


def _choose_queued(
    probs_RV: torch.Tensor, uniform_R: torch.Tensor, top_p: float, undecided: torch.Tensor | None
) -> torch.Tensor:
    if top_p >= 1:
        return integer_cdf.pick(probs_RV, uniform_R)
    tokens_R, short_R = integer_cdf.pick_of_likeliest(probs_RV, uniform_R, top_p)
    if undecided is not None:
        undecided.logical_or_(short_R.any())
    elif len(flat_r := short_R.nonzero().squeeze(-1)):
        tokens_R[flat_r] = integer_cdf.pick(_nucleus(probs_RV[flat_r], top_p), uniform_R[flat_r])
    return tokens_R


def _probabilities(logits_RV: torch.Tensor, temperature: float, rooms_2RV: torch.Tensor) -> torch.Tensor:
    """Written to the second room."""
    scaled_RV, probs_RV = rooms_2RV
    if temperature == 1 and logits_RV.dtype == torch.float32:
        scaled_RV = logits_RV
    else:
        scaled_RV.copy_(logits_RV).div_(temperature)
    return torch.softmax(scaled_RV, dim=-1, out=probs_RV)


def _choose(probs_RV: torch.Tensor, uniform_R: torch.Tensor, top_p: float) -> torch.Tensor:
    if top_p >= 1:
        return _pick(probs_RV, uniform_R)
    values, order = _likeliest(probs_RV, min(FIRST_CANDIDATES, probs_RV.shape[-1]))
    reached = values.cumsum(-1)
    left_out = reached - values >= top_p
    if probs_RV.device.type == "cpu":
        # Which of equally likely tokens stays where the edge parts them is topk's to say, not that of the blocks.
        after_R1 = (~left_out).sum(-1, keepdim=True)
        beyond = torch.nn.functional.pad(values, (0, 1), value=torch.nan)
        edge_R1 = values.gather(-1, after_R1 - 1)
        tied_r = ((after_R1 == values.shape[-1]) | (beyond.gather(-1, after_R1) == edge_R1)).squeeze(-1).nonzero()[:, 0]
        if len(tied_r):
            order[tied_r] = probs_RV[tied_r].topk(values.shape[-1], dim=-1).indices
    # The CDF runs in the order of token ids: in that of probabilities, rounding that swaps two equally likely tokens
    # would swap their whole intervals.
    ids, by_id = order.sort(dim=-1)
    kept = values.masked_fill(left_out, 0.0).gather(-1, by_id)
    tokens_R = ids.gather(-1, _invert(kept.cumsum(-1), uniform_R)).squeeze(-1)
    # Whether a row needs more candidates is its own matter, so that its token is the same in any batch.
    flat_r = (reached[:, -1] < top_p).nonzero().squeeze(-1)
    if values.shape[-1] < probs_RV.shape[-1] and len(flat_r):
        cdf_rV = _nucleus(probs_RV[flat_r], top_p).cumsum(-1)
        tokens_R[flat_r] = _invert(cdf_rV, uniform_R[flat_r.to(uniform_R.device)]).squeeze(-1)
    return tokens_R


def _pick(probs_RV: torch.Tensor, uniform_R: torch.Tensor) -> torch.Tensor:
    """The token at which the CDF exceeds the uniform.

    A running sum over a vocabulary costs more than the softmax, so on a CPU sums of blocks find the place. Within
    `MARGIN` of a token's end, where their rounding could decide, the running sum does: the token is always its.
    """
    vocabulary = probs_RV.shape[-1]
    blocks = vocabulary // BLOCK
    if probs_RV.device.type != "cpu" or blocks < BLOCK:
        return _invert(probs_RV.cumsum(-1), uniform_R).squeeze(-1)
    whole = blocks * BLOCK
    sums_RB = probs_RV[:, :whole].unflatten(-1, (blocks, BLOCK)).sum(-1)
    sums_RB = torch.cat([sums_RB, probs_RV[:, whole:].sum(-1, keepdim=True)], dim=-1).double()
    ends_RB = sums_RB.cumsum(-1)
    target_R1 = uniform_R.unsqueeze(-1) * ends_RB[:, -1:]
    block_R1 = torch.searchsorted(ends_RB, target_R1, right=True).clamp(max=blocks)
    ids = (block_R1 * BLOCK + torch.arange(BLOCK)).clamp(max=vocabulary - 1)
    inside = probs_RV.gather(-1, ids).double()
    ends = (ends_RB - sums_RB).gather(-1, block_R1) + inside.cumsum(-1)
    at_R1 = torch.searchsorted(ends, target_R1, right=True).clamp(max=BLOCK - 1)
    high_R1 = ends.gather(-1, at_R1)
    low_R1 = high_R1 - inside.gather(-1, at_R1)
    tokens_R = ids.gather(-1, at_R1).squeeze(-1)
    sure = (target_R1 - low_R1 > MARGIN) & (high_R1 - target_R1 > MARGIN)
    close_r = (~sure).squeeze(-1).nonzero().squeeze(-1)
    if len(close_r):
        tokens_R[close_r] = _invert(probs_RV[close_r].cumsum(-1), uniform_R[close_r]).squeeze(-1)
    return tokens_R


def _likeliest(probs_RV: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` largest of each row, in falling order, and their ids.

    They lie in the `count` blocks of largest maximum, which are far quicker to find than they are; a device's own
    search is quick as it is.
    """
    vocabulary = probs_RV.shape[-1]
    blocks = vocabulary // BLOCK
    if probs_RV.device.type != "cpu" or blocks <= 2 * count:
        return probs_RV.topk(count, dim=-1)
    whole = blocks * BLOCK
    in_blocks = probs_RV[:, :whole].unflatten(-1, (blocks, BLOCK))
    peaks = in_blocks.amax(-1).topk(count, dim=-1, sorted=False).indices
    candidates = in_blocks.gather(1, peaks.unsqueeze(-1).expand(-1, -1, BLOCK)).flatten(1)
    values, at = torch.cat([candidates, probs_RV[:, whole:]], dim=-1).topk(count, dim=-1)
    block = torch.nn.functional.pad(peaks, (0, 1), value=blocks).gather(-1, at // BLOCK)
    return values, block * BLOCK + at % BLOCK


def _nucleus(probs_RV: torch.Tensor, top_p: float) -> torch.Tensor:
    """The probabilities of the smallest set of likeliest tokens that reaches `top_p`, 0 elsewhere; of ties the first.

    Without sorting: the set is all tokens from some probability on, and that is found by bisection. Floats of one sign
    are ordered as the integers of the same bits, so it is found exactly.
    """
    bits_RV = probs_RV.view(torch.int32)
    # Tokens below this hold less than half of what may be left out, all together.
    least = max((1 - top_p) / probs_RV.shape[-1] / 2, torch.finfo(torch.float32).tiny)
    enough_R1 = torch.full_like(probs_RV[:, :1], least).view(torch.int32)
    short_R1 = bits_RV.amax(-1, keepdim=True) + 1
    for _ in range(int((short_R1 - enough_R1).amax()).bit_length()):
        middle_R1 = (enough_R1 + short_R1) // 2
        reaches = _mass_from(probs_RV, middle_R1) >= top_p
        enough_R1, short_R1 = torch.where(reaches, middle_R1, enough_R1), torch.where(reaches, short_R1, middle_R1)
    kept_RV = torch.where(bits_RV >= enough_R1, probs_RV, 0.0)
    tied_RV = bits_RV == enough_R1
    ties_R1 = ((top_p - _mass_from(probs_RV, enough_R1 + 1)) / enough_R1.view(torch.float32)).ceil().clamp(min=1)
    if bool((tied_RV.sum(-1, keepdim=True) > ties_R1).any()):
        kept_RV = kept_RV.masked_fill(tied_RV & (tied_RV.cumsum(-1) > ties_R1), 0.0)
    return kept_RV


def _mass_from(probs_RV: torch.Tensor, bits_R1: torch.Tensor) -> torch.Tensor:
    """The sum [rows, 1] of the probabilities from that of these bits on."""
    if probs_RV.device.type != "cpu":
        return torch.where(probs_RV.view(torch.int32) >= bits_R1, probs_RV, 0.0).sum(-1, keepdim=True)
    below = (bits_R1 - 1).view(torch.float32).flatten().tolist()
    # A row at a time: the one such kernel of the CPU's that is vectorized, by a factor of ten, takes one number.
    kept = [torch.nn.functional.threshold(row, x, 0.0).sum() for row, x in zip(probs_RV, below, strict=True)]
    return torch.stack(kept).unsqueeze(-1)


def _invert(cdf_RC: torch.Tensor, uniform_R: torch.Tensor) -> torch.Tensor:
    """First column [rows, 1] whose CDF exceeds uniform x total: never one of probability zero."""
    total_R1 = cdf_RC[:, -1:]
    # Apple's devices have no float64; float32 is fine enough for a vocabulary.
    total = total_R1 if cdf_RC.device.type == "mps" else total_R1.double()
    target_R1 = (uniform_R.to(total.dtype).to(cdf_RC.device).unsqueeze(-1) * total).to(cdf_RC.dtype)
    # Rounding to float32 may reach the total itself, beyond which there is nothing left to pick.
    target_R1 = torch.minimum(target_R1, torch.nextafter(total_R1, torch.zeros_like(total_R1)))
    picked_R1 = torch.searchsorted(cdf_RC, target_R1, right=True)
    # NaN, which is reported elsewhere, has no such column; a wrong index on a device would end the process.
    return picked_R1.clamp(max=cdf_RC.shape[-1] - 1)
