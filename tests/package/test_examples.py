"""The examples are run as a user runs them, and stay short."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from support import ROOT

import divmon

EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))

SEEN = {
    "sft": "tensorboard --logdir",
    "dpo": "sbert/narrowing_correct",
    "grpo": "the rollouts",
    "plain_loop": "step 30: SBERT",
    "watch": "accuracy",
    "my_metric": "my_metric",
}

LITTLE_BASE = """
from divmon.lineages.miniature.base import BaseConfig, _keep, _place, train
_keep(_place(0, BaseConfig()), *train(BaseConfig(steps=80), 0, lambda *_: None))
"""


def test_every_example_is_tried_here_and_has_at_most_40_lines() -> None:
    lines = {file.stem: len(file.read_text().splitlines()) for file in EXAMPLES.glob("*.py")}
    assert lines.keys() == SEEN.keys()
    assert max(lines.values()) <= 40


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """With a cache that holds a tenth of the base model's training in its place: the whole takes a minute."""
    cache = str(tmp_path_factory.mktemp("cache"))
    env = {**os.environ, "DIVMON_CACHE": cache, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", LITTLE_BASE], env=env, check=True)
    return env


@pytest.mark.parametrize("name", SEEN)
def test_it_runs_and_measures(name: str, env: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), str(tmp_path / "run")]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert SEEN[name] in done.stdout
    stored = sorted(folder.parent for folder in tmp_path.rglob("manifest.json"))
    assert stored, "a run directory is left"
    assert all(divmon.read_run(folder).steps for folder in stored)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs_from_top_to_bottom(path: Path, env: dict[str, str], tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "saved without its outputs"
    client = NotebookClient(notebook, timeout=280, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=env)
    shown = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "failed" not in shown, shown
    assert [divmon.read_run(tmp_path / "runs" / name).steps for name in ("narrow", "broad")] == [[0, 15, 30]] * 2
    pictures = [o for cell in notebook.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(pictures) == 1
