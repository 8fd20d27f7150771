"""Verifiers, one file each: this folder is the registry.

A verifier is a function named as its file, `(text, prompt) -> Verdict`: correct, wrong, or None for ungradable,
with a reason, and the final answer where it found one. It may ask for `complete`, which is False where the text was
truncated by the token limit. It runs in a child process with a time limit (grader.py), and imports nothing heavy at
its top: the main process reads the file too.

Constants that such a file may set:

    IMPORTS = ("math_verify",)   libraries of its own, loaded in the child before the clock of its first text starts
    BATCH = True                 `(texts, prompts) -> list[Verdict]`, called once; it starts its own processes
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from divmon.grading.verifiers._reward import THRESHOLD, as_verifier, is_reward
from divmon.options import from_file
from divmon.types import Prompt, Verdict

OTHER_FORMS = (
    "'file.py:function' for a function (text, prompt) -> Verdict or bool, or a TRL reward function as it is, correct"
    f" above a reward of {THRESHOLD} or the one given as 'file.py:function>0.9'"
)


@dataclass(frozen=True)
class Verifier:
    """A rule with what its file says about it."""

    name: str
    """As given; a file's path is absolute."""
    function: Callable[..., Any]
    batch: bool = False
    imports: tuple[str, ...] = ()
    named: bool = True
    """A child process can load it by its name; a callable of the user's own it cannot."""

    @property
    def is_ours(self) -> bool:
        """It is a file of this folder."""
        return self.named and self.name in _here()

    @property
    def users_function(self) -> Callable[..., Any]:
        """What the user wrote: of a reward function that is called as a rule, itself."""
        function = self.function
        if isinstance(function, functools.partial) and function.func is as_verifier:
            return function.args[0]
        return function

    def __call__(self, text: str, prompt: Prompt, complete: bool = True) -> Verdict:
        """The verdict on one text; a plain True, False or None is one too. Raises TypeError: the rule returned
        something else."""
        asks = "complete" in inspect.signature(self.function).parameters
        result = self.function(text, prompt, complete=complete) if asks else self.function(text, prompt)
        if isinstance(result, Verdict):
            return result
        if result is None or isinstance(result, bool) or type(result).__name__ in ("bool_", "bool"):
            return Verdict(result if result is None else bool(result))
        raise TypeError(f"{self.name} returned {result!r:.80}; expected a Verdict, True, False or None")


def available() -> list[str]:
    """Names of the rules in this folder and of those that installed packages bring (group "divmon.verifiers")."""
    return sorted(_here() | {point.name for point in entry_points(group="divmon.verifiers")})


def load(name: str | Callable[..., Any]) -> Verifier:
    """The rule of that name, of "file.py:function", or a callable of the user's own.

    Raises:
        ValueError: there is none; the message says which there are.

    >>> load("math_answer").imports
    ('math_verify',)
    """
    if isinstance(name, Verifier):
        return name
    if not isinstance(name, str):
        given = _verifier(getattr(name, "__name__", type(name).__name__), name, THRESHOLD)
        return replace(given, named=False)
    return _load(name)


@functools.cache
def _load(name: str) -> Verifier:
    """Once for each name: a file of the user's own is run when it is loaded."""
    if ":" in name:
        above = re.search(r"\s*>\s*(-?\d*\.?\d+)$", name)
        path, _, function = (name[: above.start()] if above else name).rpartition(":")
        address = f"{Path(path).expanduser().resolve()}:{function}"  # the child may start elsewhere
        threshold = float(above[1]) if above else THRESHOLD
        return _verifier(f"{address}>{threshold}" if above else address, from_file("verifier", address), threshold)
    if name in _here():
        return _verifier(name, getattr(importlib.import_module(f"{__name__}.{name}"), name), THRESHOLD)
    for point in entry_points(group="divmon.verifiers", name=name):
        return _verifier(name, point.load(), THRESHOLD)
    raise ValueError(f"no verifier named {name!r}; there are {', '.join(available())}, or give {OTHER_FORMS}")


def _here() -> set[str]:
    return {module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")}


def _verifier(name: str, function: Callable[..., Any], threshold: float) -> Verifier:
    constants = vars(sys.modules[function.__module__]) if getattr(function, "__module__", None) in sys.modules else {}
    if is_reward(function):
        return Verifier(name, functools.partial(as_verifier, function, threshold), imports=constants.get("IMPORTS", ()))
    return Verifier(name, function, constants.get("BATCH", False), constants.get("IMPORTS", ()))
