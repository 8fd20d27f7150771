"""A generation batch of GRPOTrainer or RLOOTrainer, and what the trainer says of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from divmon.prompts.rendering import Think
from divmon.prompts.rendering.chat_template import assistant_header, own_tokenizer, tokenizer_copy
from divmon.training.rollouts.groups import TASK, Group
from divmon.types import Finish


@dataclass(frozen=True)
class Batch:
    """What the tap saw of one generation batch: references, nothing computed."""

    inputs: Any
    prompts: Any
    completions: Any
    ids: Any
    rewards: Any
    """[N, F] of all processes; the four above are this process's part."""


def groups_of(trainer: Any, batch: Batch) -> Iterator[Group]:
    """The batch's groups, whole: with several processes from what the trainer has gathered for its own log.

    Token ids and the rows' other columns are of this process's part alone, the first.

    Raises:
        ValueError: they do not fit together.
    """
    prompts, completions = batch.prompts, batch.completions
    if trainer.accelerator.num_processes > 1:
        prompts, completions = list(trainer._logs["prompt"]), list(trainer._logs["completion"])
    total, size, here = len(batch.rewards), trainer.num_generations, len(batch.prompts)
    if not len(prompts) == len(completions) == total or total % size:
        raise ValueError(
            f"expected prompts and completions for {total} rewards, in groups of {size}; got {len(prompts)} and"
            f" {len(completions)}"
        )
    ends = _ends(trainer)
    finishes: list[Finish] = ["eos" if len(ids) and int(ids[-1]) in ends else "length" for ids in batch.ids]
    finishes += ["unknown"] * (total - here)
    n_tokens = [*map(len, batch.ids), *[None] * (total - here)]
    for start in range(0, total, size):
        its = slice(start, start + size)
        row = batch.inputs[start] if start < here else None
        yield Group(prompts[start], completions[its], batch.rewards[its], finishes[its], n_tokens[its], row)


def decoding_of(trainer: Any) -> dict[str, Any]:
    """How it draws, for the record."""
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    decoding = {"max_new_tokens": trainer.args.max_completion_length}
    decoding |= {name: getattr(trainer.args, name, None) for name in names}
    return {"decoding": {TASK: decoding}, "sampler": f"rollouts of {type(trainer).__name__}"}


def tokenizer_of(trainer: Any) -> Any:
    """Its tokenizer, also out of a processor."""
    return own_tokenizer(trainer.processing_class)


def _ends(trainer: Any) -> set[int]:
    """Tokens that close a completion, as the trainer itself counts those that were truncated (`clipped_ratio`)."""
    tokenizer = tokenizer_of(trainer)
    return {*(getattr(trainer, "eos_token_ids", None) or [tokenizer.eos_token_id]), tokenizer.pad_token_id}


def opens_reasoning(trainer: Any) -> bool:
    """Its prompts end inside a reasoning block, so that completions begin there."""
    kwargs = getattr(trainer, "chat_template_kwargs", None) or {}
    return assistant_header(tokenizer_copy(trainer.processing_class), kwargs)[1].rstrip().endswith(Think().open)
