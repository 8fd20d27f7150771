"""A model's own generation_config, put aside while it is sampled: the stated decoding alone decides what is generated.

`generate` fills every field that the config handed to it leaves open from the model's own, and most fields have no
neutral value that could be handed over (`suppress_tokens`, `min_new_tokens`, `stop_strings`, ...).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

UNSAID = {
    *("bos_token_id", "decoder_start_token_id", "eos_token_id", "pad_token_id", "transformers_version"),
    *("output_attentions", "output_hidden_states", "output_logits", "output_scores", "return_dict_in_generate"),
    *("use_cache", "cache_implementation", "cache_config", "max_cache_len", "prefill_chunk_size", "low_memory"),
    *("compile_config", "disable_compile", "continuous_batching_config"),
}
"""Fields that say what tokens mean (the end tokens are read before), what else is returned, and how it is computed;
not what is sampled."""


@contextmanager
def own_generation_config_aside(model: Any) -> Iterator[None]:
    """Empty configs inside, in the model and in what it wraps; afterwards the same objects as before, untouched."""
    from transformers import GenerationConfig

    holders = [module for module in model.modules() if vars(module).get("generation_config") is not None]
    before = [module.generation_config for module in holders]
    try:
        for module in holders:
            module.generation_config = GenerationConfig()
        yield
    finally:
        for module, config in zip(holders, before, strict=True):
            module.generation_config = config


def put_aside(model: Any) -> str:
    """What of the model's own config would decide what is sampled, as "min_new_tokens=3, top_k=20"; often nothing."""
    config = getattr(model, "generation_config", None)
    fields = vars(config) if config is not None else {}
    return ", ".join(
        f"{name}={_short(value)}"
        for name, value in sorted(fields.items())
        if value is not None and value is not False and name not in UNSAID and not name.startswith("_")
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
