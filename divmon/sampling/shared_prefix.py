"""Attention that keeps a prompt's keys and values once for all its samples, and reads them once a step for all of them.

Each sample's own cache holds what it has generated. A query's scores on the prompt and on its own tokens go through one
softmax, so the result is that of attention over both together. Registered in transformers' attention interface, which
hands extra arguments of a model's forward on to it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from divmon.sampling.kv_cache import Roomy
from divmon.sampling.prompt_ends import Prompts

NAME = "divmon_shared_prefix"
SHORTEST = 512
"""Tokens of a prompt from which on it is worth it: below, attention of one kernel is quicker."""
FEWEST = 8
"""Samples of a prompt, likewise."""
KNOWN = {"sliding_window", "position_ids", "use_cache", "past_key_values", "is_causal", "cache_position", "dropout"}
"""Arguments of attention that change nothing here: all that is in the cache lies within the window, and a model that
is sampled is in evaluation mode."""


class Unshared(RuntimeError):
    """Why a model's prompts cannot be kept once."""


def worth_sharing(prompt_tokens: int, samples: int) -> bool:
    """Whether a prompt's samples are better off with one copy of it."""
    return prompt_tokens >= SHORTEST and samples >= FEWEST


def widest_shared(model: Any) -> float:
    """Tokens of a row up to which prompts can be kept once; 0 for a model that has attention of its own."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    takes_more = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(base.forward).parameters.values())
    implementation = getattr(base.config, "_attn_implementation", None)
    if not (takes_more and getattr(base, "_supports_attention_backend", False) and implementation in ("sdpa", "eager")):
        return 0
    widest = float("inf")
    for layer in DynamicCache(config=base.config).layers:
        if type(layer) is DynamicSlidingWindowLayer:
            widest = min(widest, layer.sliding_window)
        elif type(layer) is not DynamicLayer:
            return 0
    return widest


class SharedPrefix:
    """The prompts of a batch, taken out of its cache after the prefill.

    Args:
        cache: of `growing_cache`; from here on it holds what each sample generates.
        samples: per prompt.

    Raises:
        Unshared: the cache has layers of another kind.
    """

    def __init__(self, model: Any, cache: Any, prompts: Prompts, samples: int) -> None:
        if any(not isinstance(layer, Roomy) for layer in cache.layers):
            raise Unshared("its cache has layers of another kind")
        self.prompts, self.samples = len(prompts.ids_PL), samples
        self.layers = [layer.part(samples) for layer in cache.layers]
        device = self.layers[0][0].device
        self.hidden = ~prompts.mask_PL.bool().to(device)[:, None, None] if prompts.padded else None
        self.slots = torch.arange(self.prompts * samples, device=device)
        """Of each row: the number of its prompt times the samples per prompt, and its number among them."""
        asking = [m for m in model.modules() if hasattr(m, "layer_idx") and hasattr(m, "config")]
        self.configs = {id(module.config): module.config for module in asking}
        self.asked: set[int] = set()
        """Layers whose attention came here."""

    def select(self, keep: torch.Tensor) -> None:
        """Row i becomes what row `keep[i]` was; the others' places count for nothing."""
        self.slots[: len(keep)] = self.slots[keep]
        self.slots[len(keep) :] = self.prompts * self.samples

    def drop(self) -> None:
        """Lets go of the places of rows that have left, and of prompts without rows once they are half of all."""
        slots_r = self.slots[self.slots < self.prompts * self.samples]
        prompt_r = slots_r // self.samples
        rows_P = torch.bincount(prompt_r, minlength=self.prompts)
        before_r = torch.cat([torch.zeros_like(rows_P[:1]), rows_P.cumsum(0)])[prompt_r]
        order = prompt_r.argsort(stable=True)
        at_r = torch.empty_like(order)
        at_r[order] = torch.arange(len(order), device=order.device)
        left = rows_P.nonzero().squeeze(-1)
        if 2 * len(left) <= self.prompts:
            self.layers = [[states[left] for states in layer] for layer in self.layers]
            self.hidden = None if self.hidden is None else self.hidden[left]
            prompt_r = torch.searchsorted(left, prompt_r)
            self.prompts = len(left)
        self.samples = int(rows_P.max())
        self.slots = prompt_r * self.samples + at_r - before_r

    def attend(
        self, layer: int, query: torch.Tensor, own: tuple[torch.Tensor, torch.Tensor], mask: Any, scaling: float
    ) -> torch.Tensor:
        """[rows, 1, heads, dim] from queries [rows, heads, 1, dim] on the prompts, and on each row's own tokens.

        Args:
            own: keys and values [rows, heads of these, tokens, dim].
            mask: bool, of own tokens, False where one is not to be seen.
        """
        keys, values = self.layers[layer]
        self.asked.add(layer)
        query = query.squeeze(2).unflatten(1, (keys.shape[1], -1))  # [rows, heads of keys, queries to one of them, dim]
        before = self._together(query) @ keys.mT
        if self.hidden is not None:
            before = before.masked_fill(self.hidden, -torch.inf)
        after = query @ own[0].mT
        if mask is not None:
            after = after.masked_fill(~mask, -torch.inf)
        scores = torch.cat([self._apart(before, len(query)), after], -1).float() * scaling
        shares = torch.softmax(scores, -1).to(values.dtype)
        on_prompt, on_own = shares.split([keys.shape[-2], own[0].shape[-2]], -1)
        out = self._apart(self._together(on_prompt) @ values, len(query)) + on_own @ own[1]
        return out.flatten(1, 2).unsqueeze(1)

    def _together(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, heads, queries, n] -> [prompts, heads, samples * queries, n]; places without a row are zero."""
        room = x.new_zeros(self.prompts * self.samples + 1, *x.shape[1:])
        room.index_copy_(0, self.slots[: len(x)], x)
        return room[:-1].unflatten(0, (self.prompts, self.samples)).transpose(1, 2).flatten(2, 3)

    def _apart(self, x: torch.Tensor, rows: int) -> torch.Tensor:
        """The way back."""
        by_row = x.unflatten(2, (self.samples, -1)).transpose(1, 2).flatten(0, 1)
        return by_row[self.slots[:rows].clamp(max=len(by_row) - 1)]


@contextmanager
def attended(shared: SharedPrefix | None) -> Iterator[dict[str, Any]]:
    """Inside, the model's attention is `attention`; nothing changes where there are no shared prompts.

    Yields:
        Arguments for the model's forward.

    Raises:
        Unshared: the model has called another one, or with what is not known here.
    """
    if shared is None:
        yield {}
        return
    before = [(config, config._attn_implementation) for config in shared.configs.values()]
    try:
        for config, _ in before:
            config._attn_implementation = NAME
        yield {"shared_prefix": shared}
    finally:
        for config, name in before:
            config._attn_implementation = name
    if len(shared.asked) < len(shared.layers):
        raise Unshared("its attention does not go through transformers' interface")


def attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    shared_prefix: SharedPrefix,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers' attention functions, for one new token in each row."""
    given = [name for name, value in others.items() if value is not None and value is not False]
    if unknown := sorted(set(given) - KNOWN):
        raise Unshared(f"its attention takes {', '.join(unknown)}")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return shared_prefix.attend(module.layer_idx, query, (key, value), attention_mask, scaling), None


AttentionInterface.register(NAME, attention)
