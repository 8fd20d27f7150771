"""What a measurement costs, said before the first step: timed on two prompts, for a few tokens each."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from divmon.guard import undisturbed
from divmon.sampling import Request, TrainingEngine

TIMED_TOKENS = 16
"""New tokens drawn for each of the two prompts' completions."""
BACKWARD = 3.0
"""A training step over a forward on the same tokens: the forward, and a backward of about two."""

MUCH = 0.1
"""Share of training above which the budget is mentioned."""


def duration(seconds: float) -> str:
    """For a person.

    >>> [duration(s) for s in (0.034, 95.2, 1440, 9000)]
    ['0.034 s', '95 s', '24 min', '2.5 h']
    """
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 99.5 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class Price:
    """`seconds` is at the token limit, so an upper bound where completions end by themselves; without the scoring."""

    completions: int
    tokens: int
    seconds: float

    def share(self, measurements: float, steps: int, seconds_per_step: float | None) -> float | None:
        """Of the time of a training that has so many steps to go; None where that is not known."""
        if seconds_per_step is None or steps <= 0:
            return None
        return measurements * self.seconds / (measurements * self.seconds + seconds_per_step * steps)

    def sentence(self, share: float | None, max_overhead: float | None = None) -> str:
        of_training = "" if share is None else f", about {100 * share:.2g} % of training at this schedule"
        if max_overhead is not None:
            of_training += f", thinned to keep to {100 * max_overhead:g} %"
        elif share is not None and share > MUCH:
            of_training += "; max_overhead=0.05 would keep it to 5 %"
        return (
            f"divmon: one measurement = {self.completions:,} completions, up to {self.tokens:,} tokens, about"
            f" {duration(self.seconds)} if all answers reach their limit (timed on 2 prompts){of_training}"
        )


def price(sampler: TrainingEngine, requests: Sequence[Request]) -> Price:
    """Times two prompts (the first and the longest) and scales to all; inside nothing, it guards itself."""
    timed = [requests[0], max(requests, key=lambda request: len(request.prompt.input_ids))][: len(requests)]
    short = [
        dataclasses.replace(
            request, decoding=dataclasses.replace(request.decoding, max_new_tokens=TIMED_TOKENS, stop=())
        )
        for request in timed
    ]
    sampler.prepare(requests)
    sampler.draw(short[:1], seed=0, step=-1)  # warms up
    began = time.perf_counter()
    drawing = sampler.draw(short, seed=0, step=-1)
    seconds = time.perf_counter() - began
    tokens = sum(request.num_samples * request.decoding.max_new_tokens for request in requests)
    return Price(
        completions=sum(request.num_samples for request in requests),
        tokens=tokens,
        seconds=seconds / max(drawing.tokens, 1) * tokens,
    )


def seconds_per_step(model: Any, rows: Sequence[Sequence[int]], rows_per_step: int) -> float | None:
    """About what one training step takes, from one forward on a row of the training data; None where it cannot be read.

    Args:
        rows: token ids of a few training rows.
        rows_per_step: rows that this process trains on between two optimizer steps.
    """
    import torch

    if not rows:
        return None
    row = sorted(rows, key=len)[len(rows) // 2]
    ids = torch.tensor([list(row)], device=model.get_input_embeddings().weight.device)
    with undisturbed(model):
        model(input_ids=ids[:, :8])
        began = time.perf_counter()
        model(input_ids=ids).logits[0, -1, 0].item()
        return (time.perf_counter() - began) * BACKWARD * rows_per_step
