"""Under autocast, casts each weight once per measurement, where it would be cast again at every token.

A model that is held in float32 and trained under bf16 autocast has every matrix of every layer copied to bfloat16 at
each forward. That is most of the memory traffic of a forward of one token. While sampling, low-precision copies stand
in place of the weights; afterwards the very same Parameter objects stand there again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from divmon.undisturbed import free_bytes, is_out_of_memory, release_memory

SHARE_FOR_COPIES = 0.5
"""Of a device's free memory: as much is left for the cache of the samples."""
PROBE = 2
"""Tokens of the forward that shows how the model computes."""

_Slot = tuple[torch.nn.Module, str, torch.nn.Parameter]
"""A module, the name of one of its parameters, and the parameter."""


@dataclass(frozen=True)
class Casting:
    """How a model's forward casts."""

    dtype: torch.dtype | None = None
    """What autocast casts to, and so the type of its cache; None without autocast."""
    words: str = ""
    """What was done about the weights, or why nothing was; empty where the forward casts none."""


@contextmanager
def weights_cast_once(model: Any, max_memory_gb: float | None = None) -> Iterator[Casting]:
    """Low-precision copies of the weights that autocast would cast, inside; to be entered inside `undisturbed`.

    Checked at each use: the logits of a short forward are the same bits with and without the copies. Parameters,
    gradients, optimizer and hooks are not touched, and the order of `named_parameters` stays.

    Args:
        max_memory_gb: what the copies may take at most (10^9 bytes).

    Yields:
        What the forward casts to, and what was done.
    """
    slots: list[_Slot] = []
    words = ""
    try:
        dtype = None
        with suppress(Exception):  # what a short forward cannot tell, sampling does without
            dtype = None if _sharded(model) else _autocast_dtype(model)
        if dtype is not None and (slots := _castable(model, dtype)):
            words = _put_copies(model, slots, dtype, max_memory_gb)
        yield Casting(dtype, words)
    finally:
        _put_back(slots)


def _autocast_dtype(model: Any) -> torch.dtype | None:
    """What the model's own forward, or a context around it, casts to; None where nothing does."""
    device = model.get_input_embeddings().weight.device.type
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    around = torch.is_autocast_enabled(device)
    if not around and "forward" not in vars(model) and "forward" not in vars(base):
        return None  # nobody has wrapped the forward
    seen: list[torch.dtype | None] = []
    linear = next((m for m in model.modules() if isinstance(m, torch.nn.Linear | Conv1D)), None)
    if linear is None:
        return None

    def look(*_: Any) -> None:
        seen.append(torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None)

    hook = linear.register_forward_pre_hook(look)
    try:
        _probe(model)
    finally:
        hook.remove()
    return seen[0] if seen else None


def _castable(model: Any, dtype: torch.dtype) -> list[_Slot]:
    """The float32 weights and biases of matrix products. Norms and embeddings are not cast, and stay as they are, also
    an embedding that is tied to the output: a copy stands in the output layer alone."""
    return [
        (module, name, parameter)
        for module in model.modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
        for name, parameter in module._parameters.items()
        if parameter is not None and parameter.dtype == torch.float32 and parameter.dtype != dtype
    ]


def _put_copies(model: Any, slots: list[_Slot], dtype: torch.dtype, max_memory_gb: float | None) -> str:
    """Puts copies in place where that is possible and changes no logit; in words."""
    shared = {id(parameter): parameter for _, _, parameter in slots}
    needed = sum(parameter.numel() for parameter in shared.values()) * dtype.itemsize
    name = str(dtype).removeprefix("torch.")
    reason = _no_room(slots[0][2].device, needed, max_memory_gb)
    if not reason:
        reason = _try_copies(model, slots, shared, dtype)
    if reason:
        _put_back(slots)
        release_memory()
        return f"weights are cast to {name} at every token: {reason}"
    return f"weights cast to {name} once ({needed / 1e9:.2g} GB)"


def _try_copies(model: Any, slots: list[_Slot], shared: dict[int, torch.nn.Parameter], dtype: torch.dtype) -> str:
    """Puts copies in place; why they must not stay there, or empty."""
    try:
        before = _probe(model)
        copies = {key: torch.nn.Parameter(p.detach().to(dtype), requires_grad=False) for key, p in shared.items()}
        for module, name, parameter in slots:
            module._parameters[name] = copies[id(parameter)]
        return "" if torch.equal(before, _probe(model)) else "with copies the model's logits are others"
    except Exception as error:  # whatever it is, the model can be sampled as it was
        if is_out_of_memory(error):
            return "memory ran out while copying them"
        return f"the model fails with copies ({type(error).__name__}: {error})".splitlines()[0]


def _put_back(slots: list[_Slot]) -> None:
    for module, name, parameter in slots:
        module._parameters[name] = parameter


def _sharded(model: Any) -> bool:
    """Whether parameters lie over processes now: by FSDP or ZeRO-3, outside of where they are put together."""
    parts = [m for m in model.modules() if type(m).__name__ == "FullyShardedDataParallel"]
    if any(p._handle is not None and p._handle._training_state.name != "SUMMON_FULL_PARAMS" for p in parts):
        return True
    apart = (hasattr(p, "device_mesh") or _not_gathered(p) for p in model.parameters())
    return any(apart)


def _not_gathered(parameter: Any) -> bool:
    return hasattr(parameter, "ds_id") and parameter.ds_status.name != "AVAILABLE"


def _no_room(device: torch.device, needed: int, max_memory_gb: float | None) -> str:
    """Why copies of so many bytes do not fit; empty where they do."""
    free = free_bytes(device)
    room = float("inf") if free is None else free * SHARE_FOR_COPIES
    if max_memory_gb is not None:
        room = min(room, max_memory_gb * 1e9)
    return f"copies take {needed / 1e9:.2g} GB, and {room / 1e9:.2g} GB may be used" if needed > room else ""


def _probe(model: Any) -> torch.Tensor:
    """The logits of a short forward; its tokens are the first ones, which every vocabulary has."""
    device = model.get_input_embeddings().weight.device
    ids = torch.arange(PROBE, device=device).unsqueeze(0)
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    return logits
