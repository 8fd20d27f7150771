"""A function of the user's own, named "file.py:function", for whatever takes plug-ins."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def from_file(kind: str, name: str) -> Callable[..., Any]:
    """The function that `name` ("file.py:function") names.

    Args:
        kind: what it is to be, for the messages: "metric", "verifier".

    Raises:
        ValueError: there is no such file or function, or the file cannot be imported.
    """
    path, _, function = name.rpartition(":")
    if not Path(path).is_file():
        raise ValueError(f"{kind} {name!r}: there is no file {path!r}; expected 'file.py:function'")
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if script and Path(script).resolve() == Path(path).resolve():
        raise ValueError(
            f"{kind} {name!r}: {path} is the script that is running, and importing it would run it again; hand over the"
            f" function itself, or move it to a file of its own"
        )
    spec = importlib.util.spec_from_file_location(f"divmon_{kind}_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{kind} {name!r}: {path!r} is not a Python file; expected 'file.py:function'")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's own file may raise anything
        raise ValueError(f"{kind} {name!r}: {path} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(getattr(module, function, None)):
        there = ", ".join(n for n, f in vars(module).items() if inspect.isfunction(f)) or "none"
        raise ValueError(f"{kind} {name!r}: {path} defines no function {function!r}; it has {there}")
    return getattr(module, function)
