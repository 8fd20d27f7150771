"""Contract 1 in one place: the model and every random generator come out of `undisturbed` as they went in."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

MAX_BUFFER = 1 << 22
"""Elements of a buffer kept to be restored; larger ones are lookup tables that no forward writes."""


@contextmanager
def undisturbed_rng() -> Iterator[None]:
    """Restores python's, numpy's and torch's generators (the CPU's and every initialised device's)."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices = [
        (backend, [backend.get_rng_state(i) for i in range(backend.device_count())])
        for backend in (torch.cuda, getattr(torch, "xpu", None))
        if backend is not None and backend.is_available() and backend.is_initialized()
    ]
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        for backend, states in devices:
            for i, state in enumerate(states):
                backend.set_rng_state(state, i)
        if mps is not None:
            torch.mps.set_rng_state(mps)


@contextmanager
def undisturbed(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside; every mode, buffer and generator as it was outside.

    Modes are set as plain flags, module by module: `eval()` runs code in some adapters (merging, say), whose way back
    is not bit-exact. Evaluation mode alone takes gradient checkpointing out of the way (its layers look at
    `training`), so it is never switched: switching it off and on again leaks a hook a time and loses its settings.
    """
    modules = list(model.modules())
    modes = [module.training for module in modules]
    state = [_Forward(module) for module in modules if module._buffers]
    generation = [(m, vars(m).copy()) for m in modules if hasattr(m, "generation_config")]
    with undisturbed_rng():
        try:
            for module in modules:
                module.training = False
            with torch.no_grad():
                yield
        finally:
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode
            for kept in state:
                kept.restore()
            for module, before in generation:
                _forget_new_attributes(module, before)
            # Weights cast inside a surrounding autocast were cached without their gradient's history.
            torch.clear_autocast_cache()


class _Forward:
    """What a forward may write in a module: rotary embeddings that scale with the length rewrite their frequencies."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        self.attributes = {k: v for k, v in vars(module).items() if isinstance(v, int | float | torch.Tensor)}
        self.buffers = dict(module._buffers)
        self.values = {
            name: buffer.clone()
            for name, buffer in self.buffers.items()
            if buffer is not None and not buffer.is_meta and buffer.numel() <= MAX_BUFFER
        }

    def restore(self) -> None:
        vars(self.module).update(self.attributes)
        self.module._buffers.update(self.buffers)
        for name, value in self.values.items():
            buffer = self.buffers[name]
            assert buffer is not None
            if not torch.equal(buffer, value):
                buffer.copy_(value)


def _forget_new_attributes(module: torch.nn.Module, before: dict[str, Any]) -> None:
    """`generate` leaves attributes on the model (a remembered cache length, PEFT's bound method)."""
    for name in vars(module).keys() - before.keys():
        delattr(module, name)
