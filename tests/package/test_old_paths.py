"""The module paths of version 0.1 lead to the modules of today, with one line that names them."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from support import forks

import divmon

BELOW = ["metrics.ead", "tasks.gsm8k", "rewards.rlvr", "comparison.compare", "samplers.live", "verifiers.math_answer"]


@pytest.mark.parametrize("old", [*divmon._MOVED, *BELOW])
def test_an_old_path_is_the_module_of_today(old: str) -> None:
    first, _, rest = old.partition(".")
    new = f"divmon.{divmon._MOVED[first]}" + (f".{rest}" if rest else "")
    sys.modules.pop(f"divmon.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"divmon.{old} has moved: import {new}"):
        module = importlib.import_module(f"divmon.{old}")
    assert module is importlib.import_module(new)
    assert module.__name__ == new and module.__spec__ is not None and module.__spec__.name == new


def test_a_script_of_version_0_1_gets_one_line_at_its_own_import(tmp_path: Path) -> None:
    script = tmp_path / "old.py"
    script.write_text(
        "import divmon\nfrom divmon.store import read_run\nfrom divmon.store import Store\n"
        "assert read_run is divmon.read_run\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert [line for line in done.stderr.splitlines() if "Warning" in line] == [
        f"{script}:2: DeprecationWarning: divmon.store has moved: import divmon.storage.writer"
    ]


def test_a_path_that_never_was_is_an_error_as_ever() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'divmon\.metric'"):
        importlib.import_module("divmon.metric")
    with pytest.warns(DeprecationWarning), pytest.raises(ModuleNotFoundError, match=r"divmon\.scoring\.metrics\.nope"):
        importlib.import_module("divmon.metrics.nope")


def test_the_package_itself_uses_none_of_them() -> None:
    code = "import warnings; warnings.filterwarnings('error', category=DeprecationWarning, module=r'divmon\\Z')\n"
    code += "import divmon.cli, divmon.callback, divmon.cli.replay, divmon.cli.compare, divmon.cli.watch"
    done = forks.run(["-c", code])
    assert done.returncode == 0, done.stderr
