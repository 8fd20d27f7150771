"""Calls of functions of the user's own, which run in this process: within a time limit, and without ending it.

One limit for all of them (metrics, verifiers, reward functions, loggers, alert functions), set by `limited` from the
option `user_timeout`. No other limit than a thread's stops every function, so each is called in a daemon thread of its
own, always the same one (a connection that it opened stays usable). A thread cannot be killed: what hangs is abandoned,
with all it holds, and not called again in this process.
"""

from __future__ import annotations

import contextvars
import os
import queue
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SECONDS: contextvars.ContextVar[float | None] = contextvars.ContextVar("seconds", default=60.0)
"""Limit of one call; None for no limit, in the calling thread."""

_hung: list[Any] = []
"""Functions that did not return in time."""
_threads: weakref.WeakKeyDictionary[Any, _Thread] = weakref.WeakKeyDictionary()


class TimedOut(Exception):
    """The function took longer than it may, now or at an earlier call."""


class Ended(Exception):
    """The function raised what would end the process: SystemExit, or another that is no Exception."""


class Raised(Exception):
    """The function raised an exception whose text is made by code of its own: its name and its text."""


@contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """The limit of each call inside."""
    token = SECONDS.set(seconds)
    try:
        yield
    finally:
        SECONDS.reset(token)


def is_ours(function: Any) -> bool:
    """A function, or an object by its class, of this package, which is called as it is."""
    module = getattr(function, "__module__", None) or type(function).__module__
    return str(module).split(".")[0] == "divmon"


def called(function: Any, call: Callable[[], Any]) -> Any:
    """What `call` returns; where it calls a function or an object of the user's own, as `within`."""
    return call() if is_ours(function) else within(function, call)


def within(function: Any, call: Callable[[], Any], seconds: float | None = None) -> Any:
    """What `call` returns.

    Args:
        function: the user's, or an object of the user's, which `call` calls; once it has hung it is left out.
        seconds: limit of this call; that of `limited` where None.

    Raises:
        TimedOut: it did not return in time, or did not return once before.
        Ended, Raised: it raised SystemExit or the like; or what says by code of its own what happened.
        Exception: what it raised.
        KeyboardInterrupt: Ctrl-C while it was waited for.
    """
    if any(one is function or one == function for one in _hung):
        raise TimedOut(f"{_name(function)} is left out: it did not return in time before")
    seconds = SECONDS.get() if seconds is None else seconds
    if seconds is None:
        return _given(_outcome(call))
    try:
        outcome = _thread_of(function).call(call, seconds)
    except queue.Empty:
        _hung.append(function)
        raise TimedOut(f"{_name(function)} did not return in {seconds:g} s and is left out from now on") from None
    return _given(outcome)


Outcome = tuple[Any, BaseException | None]


def _given(outcome: Outcome) -> Any:
    value, error = outcome
    if error is None:
        return value
    raise error


def _outcome(call: Callable[[], Any]) -> Outcome:
    try:
        return call(), None
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        return None, _with_its_text(error)


def _with_its_text(error: BaseException) -> BaseException:
    """An error that can be read without running the user's code, made where that code has a limit on time."""
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException as other:
        text = f"({type(other).__name__} in its own text)"
    if not isinstance(error, Exception):
        return Ended(f"{name}: {text}").with_traceback(error.__traceback__)
    by_python = isinstance(type(error).__str__, types.WrapperDescriptorType)
    if by_python and all(type(part) in _PLAIN for part in error.args):
        return error
    return Raised(f"{name}: {text}").with_traceback(error.__traceback__)


_PLAIN = (str, bytes, int, float, bool, type(None))


class _Thread:
    """Calls one function, time after time; ends with the function, or with the process."""

    def __init__(self, name: str) -> None:
        self.pid = os.getpid()
        self.calls: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Outcome]] | None] = queue.SimpleQueue()
        threading.Thread(target=_serve, args=(self.calls,), name=f"divmon: {name}", daemon=True).start()

    def __del__(self) -> None:
        self.calls.put(None)

    def call(self, call: Callable[[], Any], seconds: float) -> Outcome:
        """Raises queue.Empty where it does not return in time."""
        context, state = contextvars.copy_context(), _thread_state()
        done: queue.SimpleQueue[Outcome] = queue.SimpleQueue()

        def run() -> Any:
            with state():
                return context.run(call)

        self.calls.put((run, done))
        return done.get(timeout=seconds)


def _serve(calls: queue.SimpleQueue[Any]) -> None:
    while (job := calls.get()) is not None:
        call, done = job
        done.put(_outcome(call))
        del job, call, done  # hold nothing of the training between two calls


def _thread_of(function: Any) -> _Thread:
    try:
        thread = _threads.get(function)
        if thread is None or thread.pid != os.getpid():  # a forked process has none of its parent's threads
            thread = _threads[function] = _Thread(_name(function))
    except TypeError:  # no weak reference to it, or no hash
        thread = _Thread(_name(function))
    return thread


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", type(function).__name__)


def _thread_state() -> Callable[[], Any]:
    """What torch keeps by thread, for the thread to come: the GPU, and whether gradients are recorded."""
    torch = sys.modules.get("torch")
    if torch is None:
        return _nothing
    grad, device = torch.is_grad_enabled(), torch.cuda.current_device() if torch.cuda.is_initialized() else None

    @contextmanager
    def state() -> Iterator[None]:
        if device is not None:
            torch.cuda.set_device(device)
        with torch.set_grad_enabled(grad):
            yield

    return state


@contextmanager
def _nothing() -> Iterator[None]:
    yield
