"""What the kind of a device decides about how to sample on it."""

from __future__ import annotations

import torch

CHECK_EVERY = 8
"""Steps between checks of which rows have finished, where a check waits for the device."""


def queued(device: torch.device) -> bool:
    """Whether a device works off a queue of operations, so that to read a value is to wait for all before it."""
    return device.type != "cpu"


def sums_integers(device: torch.device) -> bool:
    """Whether tokens are chosen with running sums of integers: where those of floats are not deterministic. Apple's
    devices lack the float64 that it takes."""
    return queued(device) and device.type != "mps"


def replays(device: torch.device) -> bool:
    """Whether forwards at fixed shapes are quicker, as graphs of them can be replayed."""
    return device.type == "cuda"


def check_every(device: torch.device) -> int:
    """Steps between checks of which rows have finished: on a CPU a check costs nothing."""
    return CHECK_EVERY if queued(device) else 1
