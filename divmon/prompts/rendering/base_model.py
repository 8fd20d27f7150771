"""Signs that a model with a chat template was never tuned to chat: many base models ship with a template."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

from divmon.prompts.rendering.chat_template import end_of_turn_ids

BASE_WORDS = {"base", "pretrain", "pretrained", "pt"}
CHAT_WORDS = {"instruct", "chat", "it", "sft", "dpo", "rlhf", "assistant", "thinking", "think"}
"""In the names that models are published under."""

UNTRAINED = 0.1
"""A row of the embedding whose norm is below this share of the median row's was never trained (Llama 3's base has its
end of turn so)."""
ROWS = 1024
"""Of the embedding that the median is taken over."""


def base_model_sign(tokenizer: Any, model: Any = None) -> str:
    """What speaks for a base model, in words; empty where nothing does.

    By weight: the end-of-turn token's embedding was never trained; the name says base or chat; neither the tokenizer
    nor the model's generation config ends a text with the end-of-turn token.
    """
    ends = end_of_turn_ids(tokenizer, {})
    if not ends:
        return ""
    names = "/".join(tokenizer.convert_ids_to_tokens(sorted(ends)))
    if model is not None and _untrained(model, ends):
        return f"the embedding of its end of turn {names} was never trained"
    words = _words(model, tokenizer)
    if words & CHAT_WORDS:
        return ""
    if words & BASE_WORDS:
        return f"its name says {', '.join(sorted(words & BASE_WORDS))}"
    known = {tokenizer.eos_token_id, *_ids(getattr(getattr(model, "generation_config", None), "eos_token_id", None))}
    if not ends & known:
        return f"neither its tokenizer nor its generation config ends a text with the template's end of turn {names}"
    return ""


def _ids(value: int | Iterable[int] | None) -> set[int]:
    return {value} if isinstance(value, int) else set(value or ())


def _words(model: Any, tokenizer: Any) -> set[str]:
    """Of the model's name, else of the tokenizer's; of a path the last part only."""
    name = getattr(getattr(model, "config", None), "_name_or_path", "") or getattr(tokenizer, "name_or_path", "") or ""
    return set(re.split(r"[^a-z0-9]+", PurePath(str(name)).name.lower()))


def _untrained(model: Any, ends: set[int]) -> bool:
    """Whether a row of every end-of-turn token is next to nothing beside the others; False where it cannot be read."""
    import torch

    try:
        weight = model.get_input_embeddings().weight
    except (AttributeError, NotImplementedError):
        return False
    # Sharded parameters are not whole here, and quantized ones are no numbers.
    if type(weight.data) is not torch.Tensor or weight.ndim != 2 or not weight.is_floating_point() or weight.is_meta:
        return False
    if len(weight) <= max(ends):
        return False
    with torch.no_grad():
        some = weight.data[:: max(1, len(weight) // ROWS)].float().norm(dim=-1)
        own = weight.data[sorted(ends)].float().norm(dim=-1)
    return bool((own < UNTRAINED * some.median()).all())
