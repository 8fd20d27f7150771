"""A time limit for functions of the user's own, which run in this process and may never return."""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable
from typing import Any

_hung: list[Callable[..., Any]] = []
"""Functions that did not return in time. Their threads still run, so they are not called again."""


class TimedOut(Exception):
    """The function took longer than it may, now or at an earlier call."""


def within(seconds: float, function: Callable[..., Any], call: Callable[[], Any]) -> Any:
    """What `call` returns; in a thread of its own, for no other kind of limit stops every function.

    Args:
        function: the user's, which `call` calls: once it has hung it is left out from then on.

    Raises:
        TimedOut: it did not return in `seconds`, or did not return once before.
        BaseException: what it raised.
    """
    if any(one is function or one == function for one in _hung):
        raise TimedOut(f"{_name(function)} is left out: it did not return in time before")
    outcome: list[tuple[bool, Any]] = []
    context, set_device = contextvars.copy_context(), _device_setter()

    def run() -> None:
        try:
            set_device()
            outcome.append((True, context.run(call)))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=run, name=f"divmon: {_name(function)}", daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        _hung.append(function)
        raise TimedOut(f"{_name(function)} did not return in {seconds:g} s and is left out from now on")
    returned, value = outcome[0]
    if not returned:
        raise value
    return value


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", type(function).__name__)


def _device_setter() -> Callable[[], None]:
    """Makes this thread's GPU that of the thread to come: each thread begins with the first one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return lambda: None
    device = torch.cuda.current_device()
    return lambda: torch.cuda.set_device(device)
