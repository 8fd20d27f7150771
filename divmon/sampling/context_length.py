"""How many tokens a model can look at, and what of the requests fits in there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from divmon.sampling import Key, Request


def context_length(model: Any) -> int | None:
    """Tokens of prompt and completion together that the model was made for; None where its config names none.

    Learned positions (GPT-2) end there with an error; rotary ones go on beyond it and give text that means nothing.
    """
    config = _config(model)
    length = getattr(config, "max_position_embeddings", None)  # GPT-2's n_positions goes by this name too
    if not isinstance(length, int) or length < 1:
        return None
    rope = _rope(config)
    if rope.get("rope_type") == "dynamic":  # stretched beyond, as far as its factor says
        return int(length * float(rope.get("factor") or 1.0))
    return length


def width_limit(model: Any) -> float:
    """Tokens that a row of a batch may be wide, whatever its own prompt and answer need.

    A row that has ended may be carried along for a while, which takes a learned position beyond the last one.
    """
    length = context_length(model)
    return math.inf if length is None or _rope(_config(model)) else length


def _config(model: Any) -> Any:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base.config.get_text_config()


def _rope(config: Any) -> dict[str, Any]:
    """How positions are rotated; empty where they are not."""
    rope = getattr(config, "rope_parameters", None)
    return rope if isinstance(rope, dict) else {}


def fitting(requests: Sequence[Request], context: int | None) -> tuple[list[Request], dict[Key, str]]:
    """The requests whose prompts leave room for an answer, with that room as their limit; and why others do not.

    An answer that the room cuts short ends by length, as one that its own limit cuts.
    """
    if context is None:
        return list(requests), {}
    fit, missing = [], {}
    for request in requests:
        room = context - len(request.prompt.input_ids)
        if room < 1:
            missing[request.key] = (
                f"its {len(request.prompt.input_ids):,} tokens leave no room for an answer in the model's context of"
                f" {context:,}; give shorter prompts"
            )
        elif room < request.decoding.max_new_tokens:
            fit.append(replace(request, decoding=replace(request.decoding, max_new_tokens=room)))
        else:
            fit.append(request)
    return fit, missing


def what_does_not_fit(requests: Sequence[Request], fit: Sequence[Request], context: int | None) -> str:
    """What `fitting` did, in a sentence."""
    limits = {request.key: request.decoding.max_new_tokens for request in requests}
    cut = sum(request.decoding.max_new_tokens < limits[request.key] for request in fit)
    return (
        f"the model's context holds {context or 0:,} tokens: {len(requests) - len(fit)} of {len(requests)} prompts are"
        f" left out, as they leave no room for an answer, and the answers to {cut} have less room than the limit and"
        " count as truncated beyond it"
    )
