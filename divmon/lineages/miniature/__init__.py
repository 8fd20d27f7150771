"""A world small enough to train in: word problems, ways to solve them, and a base model that learned them all."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "base_model": "base",
    "broad": "data",
    "narrow": "data",
    "probe": "data",
    "draw_problem": "problems",
    "solve": "styles",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; there are {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
