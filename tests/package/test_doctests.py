"""What docstrings show is what happens."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import divmon

PROGRAMS = ("divmon.__main__", "divmon.grading.sandbox.inside", "divmon.grading.verifiers._worker")
"""Run as scripts in processes of their own; importing them here would run them."""
MODULES = [m.name for m in pkgutil.walk_packages(divmon.__path__, "divmon.") if not m.name.startswith(PROGRAMS)]


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name: str) -> None:
    module = importlib.import_module(name)
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).failed == 0
