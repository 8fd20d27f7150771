"""What benchmarks share: the head that names machine and versions, a process a run, its peak of memory, its parts."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import multiprocessing
import os
import platform
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def head(*packages: str) -> str:
    """The command, the machine and the versions in two lines."""
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("divmon", *packages))
    return (
        f"$ python {' '.join([os.path.relpath(sys.argv[0]), *sys.argv[1:]])}\n"
        f"{models[0]}, {os.cpu_count()} cores, one thread; load {os.getloadavg()[0]:.1f} at the start;"
        f" Python {platform.python_version()}, {versions}"
    )


def alone(function: Callable[..., Any], *args: Any) -> Any:
    """What the function returns in a fresh process of its own, so that its peak of memory is nobody else's."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_aside, function, *args).result()


def _aside(function: Callable[..., Any], *args: Any) -> Any:
    """What it prints goes to the error stream: the table stands alone."""
    with contextlib.redirect_stdout(sys.stderr):
        return function(*args)


def peak_mb() -> float:
    """Of this process, 10^6 bytes. Not getrusage's, which begins with that of the process that started this one."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        return int(next(line for line in status if line.startswith("VmHWM:")).split()[1]) * 1024 / 1e6


def quiet_model() -> Any:
    """The miniature model and its tokenizer; one thread, no advice."""
    import torch
    import transformers

    from divmon.lineages.miniature import base_model

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return base_model()


def timed(owner: Any, name: str, spent: dict[str, float], clock: Callable[[], float]) -> None:
    """From here on adds the seconds of every call of a function or method to those spent under its name."""
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def outer(*args: Any, **kwargs: Any) -> Any:
        began = clock()
        try:
            return inner(*args, **kwargs)
        finally:
            spent[name] = spent.get(name, 0.0) + clock() - began

    setattr(owner, name, outer)


def exponent(sizes: list[float], costs: list[float]) -> float:
    """b of cost ~ size^b by least squares over all sizes: 1 is linear, a doubling costs 2^b."""
    import numpy as np

    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])
