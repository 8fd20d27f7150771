"""Memory of the process and of a device: what is free, when it has run out, how it is handed back, the peak."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]

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
