"""How much a batch may hold, and what to do when that was too much."""

from __future__ import annotations

import gc
import sys
from typing import Any

import torch

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]

CPU_CACHE_BYTES = 2 << 30
"""Cache of a batch on a CPU: of long answers twice this draws a fifth more tokens a second, half of it a fifth fewer.

Fixed, and not a share of what is free: where a process may take less than its machine has, the system kills it in
place of raising an error, and batches that vary with the machine's load would not repeat to the last bit.
"""
CPU_ROWS = 1024
"""Rows of a batch on a CPU: of a small model's, thousands are no faster than these, and hold more."""
SHARE_OF_FREE = 0.4
"""Of a device's free memory: growing a cache by concatenation holds it twice for a moment."""
SMALLEST_BUDGET = 2048
SIGNS = ("out of memory", "can't allocate memory", "bad_alloc", "alloc_failed")
"""In the messages of a device's allocator, torch's on a CPU, C++'s, and cuBLAS's."""


def cache_token_budget(model: Any, max_memory_gb: float | None = None) -> int:
    """Prompt and new tokens that one batch may hold in its key-value cache, from the memory free now.

    Args:
        max_memory_gb: what the batch may take at most (10^9 bytes).
    """
    parameter = next(model.parameters())
    per_token = _cache_bytes_per_token(model.config.get_text_config(), parameter.element_size())
    if parameter.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(parameter.device)
        reusable = torch.cuda.memory_reserved(parameter.device) - torch.cuda.memory_allocated(parameter.device)
        available = int((free + reusable) * SHARE_OF_FREE)
    else:
        available = CPU_CACHE_BYTES
    if max_memory_gb is not None:  # asked for, so it goes below the smallest that is sensible too
        return max(int(min(available, max_memory_gb * 1e9)) // per_token, 1)
    return max(available // per_token, SMALLEST_BUDGET)


def most_rows(model: Any) -> int:
    """Samples that are worth drawing together, however small they are."""
    return CPU_ROWS if next(model.parameters()).device.type == "cpu" else sys.maxsize


def _cache_bytes_per_token(config: Any, element_size: int) -> int:
    layers = config.num_hidden_layers
    attention_heads = getattr(config, "num_attention_heads", None) or 1  # none in a model of linear attention alone
    heads = getattr(config, "num_key_value_heads", None) or attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // attention_heads
    # Logits in float32, their softmax and its sort last one step of one row; spread over a row of some 256 tokens.
    logits = config.vocab_size * 4 * 4 // 256
    return 2 * layers * heads * head_dim * element_size + logits


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a device or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in SIGNS)


def release_memory() -> None:
    """Gives back what a failed batch held."""
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


class Peak:
    """By how much what runs inside raises the peak memory of the process and of its device; resets no counter.

    The peak is what decides whether a run fits. Training's own is mostly higher than a measurement's, and then 0 is
    added.
    """

    added_mb: dict[str, float]
    """"cpu" and, where one is in use, "device": 10^6 bytes; empty where the system does not say."""

    def __enter__(self) -> Peak:
        self._before = _peaks()
        self.added_mb = {}
        return self

    def __exit__(self, *_: object) -> None:
        self.added_mb = {name: round((now - self._before.get(name, 0)) / 1e6, 1) for name, now in _peaks().items()}


def _peaks() -> dict[str, int]:
    peaks = {}
    try:
        # Not getrusage's: that begins with the peak of the process which started this one.
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            kilobytes = next(line for line in status if line.startswith("VmHWM:")).split()[1]
        peaks["cpu"] = int(kilobytes) * 1024
    except (OSError, StopIteration):
        if resource is not None:
            kilobyte = 1 if sys.platform == "darwin" else 1024
            peaks["cpu"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        peaks["device"] = torch.cuda.max_memory_allocated()
    return peaks
