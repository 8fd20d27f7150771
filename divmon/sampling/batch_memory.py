"""How many samples a batch may hold, from the memory that is free."""

from __future__ import annotations

import sys
from typing import Any

import torch

from divmon.undisturbed import free_bytes

CPU_CACHE_BYTES = 2 << 30
"""Cache of a batch on a CPU: of long answers twice this draws a fifth more tokens a second, half of it a fifth fewer.

Fixed, and not a share of what is free: where a process may take less than its machine has, the system kills it in
place of raising an error, and batches that vary with the machine's load would not repeat to the last bit.
"""
CPU_ROWS = 1024
"""Rows of a batch on a CPU: of a small model's, thousands are no faster than these, and hold more."""
SHARE_OF_FREE = 0.8
"""Of a device's free memory; the rest is for what forwards need for a moment."""
LOGIT_BYTES = 26
"""On a device, of a row per word of the vocabulary: logits in two types, their softmax, the next step's, a graph's."""
SMALLEST_BUDGET = 2048


def cache_token_budget(model: Any, max_memory_gb: float | None = None, dtype: torch.dtype | None = None) -> int:
    """Prompt and new tokens that one batch may hold in its key-value cache, from the memory free now.

    Args:
        max_memory_gb: what the batch may take at most (10^9 bytes).
        dtype: of the cache, where it is not the parameters'.
    """
    per_token = _bytes_per_token(model, dtype)
    free = free_bytes(next(model.parameters()).device)
    available = CPU_CACHE_BYTES if free is None else int(free * SHARE_OF_FREE)
    if max_memory_gb is not None:  # asked for, so it goes below the smallest that is sensible too
        return max(int(min(available, max_memory_gb * 1e9)) // per_token, 1)
    return max(available // per_token, SMALLEST_BUDGET)


def logit_tokens(model: Any, dtype: torch.dtype | None = None) -> int:
    """Tokens of cache that take as much of a device's memory as the logits of one row; on a CPU they are in the
    budget's bytes of a token."""
    if free_bytes(next(model.parameters()).device) is None:
        return 0
    return -(-model.config.get_text_config().vocab_size * LOGIT_BYTES // _bytes_per_token(model, dtype))


def most_rows(model: Any) -> int:
    """Samples that are worth drawing together, however small they are."""
    return CPU_ROWS if next(model.parameters()).device.type == "cpu" else sys.maxsize


def _bytes_per_token(model: Any, dtype: torch.dtype | None) -> int:
    config, parameter = model.config.get_text_config(), next(model.parameters())
    layers = config.num_hidden_layers
    attention_heads = getattr(config, "num_attention_heads", None) or 1  # none in a model of linear attention alone
    heads = getattr(config, "num_key_value_heads", None) or attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // attention_heads
    cached = 2 * layers * heads * head_dim * (dtype or parameter.dtype).itemsize
    # On a CPU logits in float32, their softmax and its sort, of one step of a row, spread over some 256 tokens.
    return cached + (config.vocab_size * 4 * 4 // 256 if free_bytes(parameter.device) is None else 0)
