"""A wheel, installed where there is no checkout, has all that the commands read."""

from __future__ import annotations

import email
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import divmon

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tree, so that no build folder is left in it, without network."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("divmon", "recipes"):
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tree)
    built = tmp_path_factory.mktemp("built")
    command = ["-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--wheel-dir", str(built), str(tree)]
    subprocess.run([sys.executable, *command], check=True)
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def scratch(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv with the wheel, in which the dependencies of this one are seen."""
    folder = tmp_path_factory.mktemp("scratch") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    installing = ["-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, *installing], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin"


def run(scratch: Path, cwd: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"DIVMON_CACHE": str(cwd / "cache")}
    return subprocess.run([str(scratch / command[0]), *command[1:]], cwd=cwd, env=env, capture_output=True, text=True)


def test_it_says_what_it_is_and_brings_what_it_reads(wheel: Path) -> None:
    files = zipfile.ZipFile(wheel)
    about = email.message_from_bytes(files.read(f"divmon-{divmon.__version__}.dist-info/METADATA"))
    assert about["Version"] == divmon.__version__ and about["License-Expression"] == "MIT"
    assert about["License-File"] == "divmon/LICENSE" and "Typing :: Typed" in about.get_all("Classifier", [])
    there = set(files.namelist())
    assert {"divmon/py.typed", "divmon/LICENSE", "divmon/CHANGELOG.md"} <= there
    olmo3 = ROOT / "recipes" / "olmo3"  # what `divmon replay` reads; others are run from a checkout
    recipes = {path.relative_to(ROOT / "recipes") for path in olmo3.rglob("*") if path.is_file()}
    assert {f"divmon/lineages/recipes/{path}" for path in recipes} <= there
    data = {path.relative_to(ROOT) for kind in ("jsonl", "csv") for path in (ROOT / "divmon").rglob(f"*.{kind}")}
    assert {str(path) for path in data} <= there


def test_commands_run_from_it(scratch: Path, tmp_path: Path) -> None:
    where = run(scratch, tmp_path, "python", "-c", "import divmon; print(divmon.__file__)")
    assert Path(where.stdout.strip()).is_relative_to(scratch.parent), where.stderr
    assert "replay" in run(scratch, tmp_path, "divmon", "--help").stdout
    planned = run(scratch, tmp_path, "divmon", "replay", "think", "--scale", "miniature", "--dry-run")
    assert planned.returncode == 0 and "divmon replay think --stage sft" in planned.stdout, planned.stderr
    wrong = run(scratch, tmp_path, "divmon", "replay", "thnik", "--dry-run")
    assert wrong.returncode == 2 and "no recipe and no file named 'thnik'; did you mean 'think'?" in wrong.stderr


TINY_DEMO = """
from pathlib import Path
from divmon.cli import demo
from divmon.lineages.miniature.base import BaseConfig
tiny = BaseConfig(hidden_size=32, intermediate_size=64, num_attention_heads=2, steps=20)
runs = demo.run(Path("out"), steps=4, num_prompts=3, num_samples=4, base=tiny)
assert all(run.steps == [0, 1, 2, 3, 4] for run in runs.values())
"""


@pytest.mark.slow
def test_the_demo_runs_from_it(scratch: Path, tmp_path: Path) -> None:
    done = run(scratch, tmp_path, "python", "-c", TINY_DEMO)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "out" / "curves.png").is_file()
