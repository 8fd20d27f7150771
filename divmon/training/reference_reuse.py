"""The reference of the run before, where the next run in this process would sample the very same: nothing is drawn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch

from divmon.sampling import Request
from divmon.scoring.reference import Measurement
from divmon.types import plain

LARGEST = 2 << 30
"""Bytes of weights that are read for their fingerprint; larger models are measured anew."""
BESIDE = (
    "output_dir", "max_samples_mb", "timeout", "user_timeout", "processes", "every", "at", "geometric", "at_start",
    "at_end", "on_evaluate", "rollouts", "rollout_threshold", "alerts", "alert_delta", "max_overhead", "on_error",
    "progress", "data", "source_column", "stage", "first_step", "keep_best", "tensorboard", "likelihood_every",
)  # fmt: skip
"""Options that decide when and where is measured, and not what comes of it."""

OF_ITS_RUN = ("new_reference", "measured", "alerts", "alerts_failed", "composition")
"""Facts of a reference's provenance that are its own run's."""

_last: tuple[str, Measurement] | None = None
"""Of this process: the fingerprint of its last reference, and what was measured."""


def fingerprint(record: dict[str, Any], requests: Sequence[Request], step: int, model: Any, args: Any = None) -> str:
    """Of everything that decides a reference; "" where that cannot be told, as of functions of the user's own.

    Args:
        record: the manifest of the run.
        step: the randomness of a sample depends on it.
        model: with parameters that lie whole in this process.
        args: the trainer's, which decide the precision of a forward.
    """
    options = {name: value for name, value in record["options"].items() if name not in BESIDE}
    own = [options.get("metrics"), *record["verifiers"].values()]
    if any(":" in str(value) or "<" in str(value) for value in own):  # "file.py:function", or a function itself
        return ""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    if sum(t.numel() * t.element_size() for t in tensors.values()) > LARGEST or any(
        t.is_meta for t in tensors.values()
    ):
        return ""
    asked = [(r.key, r.prompt.input_ids, r.decoding, r.num_samples) for r in requests]
    config = getattr(model, "config", None)
    forward = [getattr(args, name, None) for name in ("bf16", "fp16")]
    forward += [str(config), getattr(config, "_attn_implementation", None), torch.get_default_dtype()]
    forward += [getattr(model, "active_adapters", None)] if hasattr(model, "peft_config") else []
    told = {**record, "options": options, "asked": asked, "step": step, "forward": list(map(str, forward))}
    digest = hashlib.blake2b(json.dumps(plain(told), sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def keep(key: str, measured: Measurement) -> None:
    """For the next run of this process, where it came through whole; the one before is let go."""
    global _last
    facts = measured.snapshot.provenance
    whole = not measured.snapshot.missing and not facts["left_out"] and "fewer_samples" not in facts
    _last = (key, measured) if key and whole else None


def kept(key: str, step: int) -> Measurement | None:
    """The last reference of this process as a measurement at this step, where its fingerprint is the same."""
    if _last is None or not key or _last[0] != key:
        return None
    before = _last[1]
    facts = {name: fact for name, fact in before.snapshot.provenance.items() if name not in OF_ITS_RUN}
    again = before.snapshot.replace(step=step, provenance={**facts, "seconds": {}, "reused": True})
    return Measurement(again, before.distances, before.correct)
