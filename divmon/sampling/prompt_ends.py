"""Prompts of unlike lengths in one batch without padding: all are prefilled as far as the shortest goes.

What is left of the longer ones is fed token by token, in the same forwards in which the shorter ones sample already. So
all rows of a batch are at the same position at each step: no forward needs a mask, and no attention kernel a copy of
the cache without its padding. It takes as many more steps as the longest prompt has more tokens than the shortest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from divmon.sampling.engines import Batch

WORTH = 8
"""With a mask, a step costs about this share (1/8) more: so many more steps are worth it."""
WORTH_FLASH = 1
"""Flash attention copies the whole cache at each step where there is a mask."""


@dataclass(frozen=True)
class Prompts:
    """What is prefilled, and what is fed behind it."""

    ids_PL: torch.Tensor
    """Padded on the left where `padded`."""
    mask_PL: torch.Tensor
    lengths_P1: torch.Tensor
    """Tokens prefilled of each prompt."""
    given_SR: torch.Tensor
    """[steps, rows] prompt tokens that are still to come, -1 where a row samples; no step where none are."""
    padded: bool


def part_prompts(batch: Batch, queued: bool, flash: bool) -> Prompts:
    """Prompts cut to the length of the shortest where that is worth it, else padded.

    Args:
        queued: on a device where operations are queued. On a CPU each sample would compute the end of its prompt again,
            which costs more than a mask does.
        flash: the model's attention is flash attention.
    """
    ids_PL, mask_PL = batch.input_ids_PL.cpu(), batch.attention_mask_PL.cpu()
    lengths_P = mask_PL.sum(-1)
    shortest, longest = int(lengths_P.min()), int(lengths_P.max())
    rows, spread = len(batch.limits_R), longest - shortest
    none = torch.full((0, rows), -1)
    if spread == 0:
        return Prompts(ids_PL, mask_PL, lengths_P[:, None], none, padded=longest < ids_PL.shape[1])
    if not (queued or flash) or spread * (WORTH_FLASH if flash else WORTH) > batch.max_new_tokens:
        return Prompts(ids_PL, mask_PL, lengths_P[:, None], none, padded=True)
    at_PL = torch.arange(longest) + (ids_PL.shape[1] - lengths_P)[:, None]  # where each prompt's tokens lie
    left_PL = ids_PL.gather(1, at_PL.clamp(max=ids_PL.shape[1] - 1))
    given_PS = left_PL.masked_fill(torch.arange(longest) >= lengths_P[:, None], -1)[:, shortest:]
    cut_PL = left_PL[:, :shortest]
    given_SR = given_PS.repeat_interleave(batch.num_samples, dim=0).T.contiguous()
    return Prompts(cut_PL, torch.ones_like(cut_PL), torch.full((len(cut_PL), 1), shortest), given_SR, padded=False)
