"""Does sharing a prompt's cache between samples give what `generate` gives? Asked once, of the model at hand.

Linear-attention and hybrid caches, soft prompts and custom code may not survive being repeated, padded or thinned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from divmon.sampling import Request
from divmon.sampling.engines import Batch, NonFiniteLogits, left_pad
from divmon.sampling.engines.generate import generate
from divmon.sampling.engines.live import live
from divmon.sampling.shared_prefix import widest_shared, worth_sharing
from divmon.undisturbed import is_out_of_memory

TOKENS = 24
"""New tokens compared."""
MAX_PROMPT = 512
"""Prompt tokens used: the check's cost is bounded whatever the probe's prompts are."""
TIE = 0.02
"""Two tokens whose logits differ by less than this share of the logits' spread are a tie: rounding may pick either."""


def compare(model: Any, requests: Sequence[Request], context: int | None, eos: list[int]) -> tuple[str, str]:
    """Decodes the shortest and the longest prompt as `live` does and as `generate` does; inside `undisturbed`.

    Returns:
        How a cache that is copied for each sample differs, and how one that is kept once does, where prompts are long
        enough for that; empty where they do not.
    """
    prompts = sorted((request.prompt.input_ids for request in requests), key=len)
    longest = MAX_PROMPT if context is None else max(1, min(MAX_PROMPT, context - TOKENS))
    short, long = prompts[0][-longest:], prompts[-1][-longest:]
    difference = differs_from_generate(model, short, long, eos)
    worth = any(worth_sharing(len(request.prompt.input_ids), request.num_samples) for request in requests)
    if difference or not worth or len(long) + TOKENS > widest_shared(model):
        return difference, ""
    return "", differs_from_generate(model, short, long, eos, shares=True)


def differs_from_generate(
    model: Any, short: tuple[int, ...], long: tuple[int, ...], eos: list[int], shares: bool = False
) -> str:
    """Decodes two prompts of at most `MAX_PROMPT` tokens greedily both ways; inside `undisturbed`.

    The two are padded together, each with two samples of which one leaves half way: the batch that `live` decodes
    exercises all that sharing needs, against `generate` on each prompt alone.

    Args:
        shares: each prompt is kept once for its samples, where it is copied for each otherwise.

    Returns:
        Empty where the tokens are equal; else what differed, in words.
    """
    prompts = [list(short), list(long)]
    limits = [TOKENS, TOKENS // 2]
    try:
        shared = live(model, replace(_greedy(prompts, limits, eos), shares=shares))
    except Exception as error:
        if is_out_of_memory(error) or isinstance(error, NonFiniteLogits):
            raise  # of this moment, not of the architecture: asked again at the next measurement
        return f"sharing a prompt's cache fails for this architecture ({type(error).__name__}: {error})".splitlines()[0]
    for p, prompt in enumerate(prompts):
        alone = generate(model, _greedy([prompt], [TOKENS], eos))
        expected = alone.tokens_RT[0, : alone.lengths_R[0]].tolist()
        for k, limit in enumerate(limits):
            row = p * 2 + k
            got = shared.tokens_RT[row, : shared.lengths_R[row]].tolist()
            at = _first_difference(got, expected[:limit])
            if at is not None and not _tie(model, prompt + expected[:at], got[at : at + 1] + expected[at : at + 1]):
                return (
                    f"with a shared cache, greedy token {at + 1} differs from generate's (this architecture's cache"
                    " cannot be shared)"
                )
    return ""


def _greedy(prompts: list[list[int]], limits: list[int], eos: list[int]) -> Batch:
    ids, mask = left_pad(prompts)
    rows = len(prompts) * len(limits)
    return Batch(
        input_ids_PL=ids,
        attention_mask_PL=mask,
        num_samples=len(limits),
        limits_R=torch.tensor(limits * len(prompts)),
        uniforms_RT=torch.zeros(rows, max(limits), dtype=torch.float64),
        temperature=0.0,
        top_p=1.0,
        eos_token_ids=eos,
    )


def _first_difference(got: list[int], expected: list[int]) -> int | None:
    for at, (a, b) in enumerate(zip(got, expected, strict=False)):
        if a != b:
            return at
    return None if len(got) == len(expected) else min(len(got), len(expected))


def _tie(model: Any, context: list[int], tokens: list[int]) -> bool:
    """Whether both tokens are as good as equally likely after `context`, so that rounding decides between them."""
    if len(tokens) < 2:
        return False
    device = model.get_input_embeddings().weight.device
    logits = model(input_ids=torch.tensor([context], device=device), use_cache=False).logits[0, -1].float()
    spread = float(logits.max() - logits.mean())
    return abs(float(logits[tokens[0]] - logits[tokens[1]])) <= TIE * spread
