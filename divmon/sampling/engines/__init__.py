"""SAMPLES: one file per way to generate completions, of two kinds.

Batch decoders, `live` and `generate`, decode with a model in this process. Each is a function of its file's name,
`(model, batch) -> Drawn`, called inside `divmon.undisturbed.undisturbed`. Batches, memory, stop strings and text are
`divmon.sampling.sampler`'s, the same for both; its `Sampler` makes an engine of them.

Engines, `server`, `trainer_vllm` and `replay`, sample by themselves. Each is a class that is a
`divmon.sampling.Engine`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

Stopper = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(rows [r], their new tokens so far [r, t]) -> bool [r], True where a stop string has appeared."""


@dataclass(frozen=True)
class Batch:
    """Prompts that are decoded together. Row p * num_samples + k is sample k of prompt p; R rows in all."""

    input_ids_PL: torch.Tensor
    """Padded on the left."""
    attention_mask_PL: torch.Tensor
    num_samples: int
    limits_R: torch.Tensor
    """New tokens each row may have."""
    uniforms_RT: torch.Tensor
    """The randomness, float64 in [0, 1), T >= max(limits)."""
    temperature: float
    top_p: float
    eos_token_ids: Sequence[int]
    stopper: Stopper | None = None
    """Asked now and then, so a row may run some tokens past its stop string."""
    deadline: float = math.inf
    """By `time.monotonic`: past it, what is not generated yet is given up."""
    together: Lockstep | None = None
    """Processes that share each layer's parameters, so that all must forward equally often."""
    waits: bool = False
    """Whether to ask the device at each token, which very flat distributions with top-p need."""
    cache_tokens: int | None = None
    """That the cache may hold in all, fewer than all rows may come to; what does not fit after all is a MemoryError."""
    shares: bool = False
    """Whether each prompt is kept once for all its samples, where the model's attention allows it."""
    likelihood_R: torch.Tensor | None = None
    """Rows whose tokens' `divmon.sampling.likelihood.token_likelihood` is recorded, bool; None for no row."""

    @property
    def max_new_tokens(self) -> int:
        return int(self.limits_R.max())

    @property
    def pad(self) -> int:
        return next(iter(self.eos_token_ids), 0)


@dataclass(frozen=True)
class Drawn:
    """New tokens [R, T] on the CPU, padded after `lengths_R`; `ended_R` is True where an end token closed the row."""

    tokens_RT: torch.Tensor
    lengths_R: torch.Tensor
    ended_R: torch.Tensor
    waited: bool = False
    """Whether the device was asked at each token."""
    unshared: str = ""
    """Why prompts were kept once per sample though the batch was to keep them once."""
    note: str = ""
    """Why it was not decoded in the quickest way, for the record."""
    likelihood_RT3: torch.Tensor | None = None
    """Of each new token, as `divmon.sampling.likelihood.token_likelihood`, NaN in rows where it was not asked for."""


DecodeBatch = Callable[[Any, Batch], Drawn]


class Lockstep(Protocol):
    """What keeps processes in step: each calls it at the same points."""

    def largest(self, value: int) -> int:
        """The largest of the processes' values, in all."""


class TooLate(RuntimeError):
    """The time for sampling is over."""

    def __init__(self) -> None:
        super().__init__("not drawn in time: the measurement took longer than timeout= allows")


class NonFiniteLogits(RuntimeError):
    """The model's logits are NaN: it has diverged, so there is nothing to sample."""

    def __init__(self) -> None:
        super().__init__("the model's logits are NaN: it has diverged, so there is nothing to sample")


def not_finite(logits: torch.Tensor) -> torch.Tensor:
    """Whether any logit is NaN or infinitely likely, or a row rules every token out; minus infinity rules out one."""
    return (~(logits.amax(-1).abs() < torch.inf)).any()  # a NaN is the largest, and not less than anything


def check_decoding(temperature: float, top_p: float) -> None:
    """Raises ValueError where a decoding setting is out of range."""
    if temperature != 0 and not 1e-3 <= temperature < float("inf"):  # logits over less may be infinite
        raise ValueError(f"temperature must be 0 (greedy), or 0.001 and above, got {temperature}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1 (1 keeps every token), got {top_p}")


def left_pad(prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask [P, L], padded on the left with 0, which the mask hides."""
    longest = max(len(ids) for ids in prompts)
    ids_PL = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask_PL = torch.zeros_like(ids_PL)
    for row, ids in enumerate(prompts):
        ids_PL[row, longest - len(ids) :] = torch.tensor(ids)
        mask_PL[row, longest - len(ids) :] = 1
    return ids_PL, mask_PL


def idle(together: Lockstep | None, deadline: float) -> Batch:
    """One row for one token: forwards for the sake of the processes that still draw."""
    one = torch.ones(1, 1, dtype=torch.long)
    return Batch(
        input_ids_PL=one,
        attention_mask_PL=one,
        num_samples=1,
        limits_R=one[0],
        uniforms_RT=torch.zeros(1, 1, dtype=torch.float64),
        temperature=0.0,
        top_p=1.0,
        eos_token_ids=(),
        deadline=deadline,
        together=together,
    )
