"""pyproject.toml declares what the package imports, and a user's script type-checks against it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from support import ROOT

import divmon

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OPTIONAL = {
    "deepspeed",
    "vllm",
    "orjson",
    "resource",
    "fcntl",
    "mlflow",
    "math_verify",
    "sympy",
    "peft",
    "optuna",
    "httpx2",
}
"""Imported only where something else has brought it, or an extra names its parent."""


def declared() -> set[str]:
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    return {re.split(r"[\[<>=~! ]", line)[0].lower().replace("_", "-") for line in lines}


def test_every_import_is_declared() -> None:
    imported = set()
    for path in (ROOT / "divmon").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    distributions = packages_distributions()
    outside = imported - set(sys.stdlib_module_names) - {"divmon", "inside"} - OPTIONAL
    missing = {
        name
        for name in outside
        if not {d.lower().replace("_", "-") for d in distributions.get(name, [name])} & declared()
    }
    assert not missing


def test_the_public_names_are_those_of_the_table() -> None:
    assert sorted(divmon.__all__) == sorted(divmon._WHERE)


def test_there_is_one_version() -> None:
    assert "version" not in PROJECT and "version" in PROJECT["dynamic"]
    assert f"## {divmon.__version__}\n" in (ROOT / "divmon/CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_public_name_is_known_to_type_checkers(tmp_path: Path) -> None:
    good = tmp_path / "good.py"
    good.write_text(
        "import divmon\nfrom divmon import DiversityCallback, Probe, Prompt\n"
        'callback = DiversityCallback(Probe("p", (Prompt("a", "b"),)), every=10)\n'
        'reveal_type(callback)\nreveal_type(divmon.read_run("runs/a").steps)\n'
    )
    bad = tmp_path / "bad.py"
    bad.write_text("from divmon import DiversityCalback\nfrom divmon import Probe\nProbe(nmae=1)\n")
    command = [sys.executable, "-m", "mypy", "--ignore-missing-imports", "--follow-imports=silent", "--no-incremental"]
    said = subprocess.run([*command, str(good)], cwd=ROOT, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout
    assert "divmon.callback.DiversityCallback" in said.stdout and 'Revealed type is "list[' in said.stdout
    said = subprocess.run([*command, str(bad)], cwd=ROOT, capture_output=True, text=True)
    assert said.returncode == 1 and "DiversityCalback" in said.stdout and "nmae" in said.stdout
