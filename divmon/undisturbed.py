"""A guest in a training process: nothing of it changes (contract 1), and memory is handed back."""

from __future__ import annotations

import gc
import locale
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]

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


@dataclass(frozen=True)
class Setting:
    """One thing of the process that code of others may change."""

    name: str
    get: Callable[[], Any]
    set: Callable[[Any], Any]


def _set_warnings(filters: list[Any]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    warnings.simplefilter("default", append=True)  # tells the registries that the filters have changed
    warnings.filters[:] = filters  # type: ignore[index]


def _set_environment(variables: dict[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update({name: value for name, value in variables.items() if os.environ.get(name) != value})


def _set_signals(handlers: dict[Any, Any]) -> None:
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) != handler:
            signal.signal(number, handler)


def _set_cudnn(flags: tuple[bool, bool, bool]) -> None:
    cudnn = torch.backends.cudnn
    cudnn.enabled, cudnn.benchmark, cudnn.deterministic = flags


SETTINGS = (
    Setting("grad mode", torch.is_grad_enabled, torch.set_grad_enabled),
    Setting("default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Setting("default device", lambda: str(torch.get_default_device()), lambda d: torch.set_default_device(_device(d))),
    Setting("threads", torch.get_num_threads, torch.set_num_threads),
    Setting(
        "deterministic algorithms",
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        lambda flags: torch.use_deterministic_algorithms(flags[0], warn_only=flags[1]),
    ),
    Setting(
        "cuDNN flags",
        lambda: (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        _set_cudnn,
    ),
    Setting("precision of matrix products", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    Setting("anomaly detection", torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    Setting("numpy's errors", np.geterr, lambda how: np.seterr(**how)),
    Setting("warnings filters", lambda: list(warnings.filters), _set_warnings),
    Setting("working directory", os.getcwd, os.chdir),
    Setting("environment", lambda: dict(os.environ), _set_environment),
    Setting("signal handlers", lambda: {n: signal.getsignal(n) for n in signal.valid_signals()}, _set_signals),
    Setting("locale", lambda: locale.setlocale(locale.LC_ALL), lambda name: locale.setlocale(locale.LC_ALL, name)),
    Setting("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Setting("garbage collection", lambda: (gc.isenabled(), gc.get_threshold()), lambda how: _set_collection(*how)),
)
"""All that `undisturbed_process` covers, besides the generators. What a hung function changes later is not covered."""


def _device(name: str) -> str | None:
    """None takes torch's own default, without its mode, which slows every call."""
    return None if name == "cpu" else name


def _set_collection(enabled: bool, threshold: tuple[int, int, int]) -> None:
    gc.set_threshold(*threshold)
    (gc.enable if enabled else gc.disable)()


@contextmanager
def undisturbed_process() -> Iterator[None]:
    """Restores the generators and the process-wide settings that code inside may change, those that it did change."""
    before = []
    for setting in SETTINGS:
        with suppress(Exception):  # a working directory that is gone, say
            before.append((setting, setting.get()))
    with undisturbed_rng():
        try:
            yield
        finally:
            for setting, value in before:
                with suppress(Exception):
                    if setting.get() != value:
                        setting.set(value)


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


# -- memory: how much is free, and what to do when that was too little


# -- memory

SIGNS = ("out of memory", "can't allocate memory", "bad_alloc", "alloc_failed")
"""In the messages of a device's allocator, torch's on a CPU, C++'s, and cuBLAS's."""


def free_bytes(device: torch.device) -> int | None:
    """Of a device's memory what nothing holds now, the allocator's own reserve included; None for a CPU."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a device or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in SIGNS)


def release_memory() -> None:
    """Gives back what a failed batch held."""
    gc.collect()
    _empty_cache()


def _empty_cache() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@contextmanager
def memory_handed_back() -> Iterator[None]:
    """Before and after what runs inside, a device's memory that is reserved and not in use goes back to the device:
    NCCL, a colocated engine and other processes cannot take it from the allocator."""
    _empty_cache()
    try:
        yield
    finally:
        _empty_cache()


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
