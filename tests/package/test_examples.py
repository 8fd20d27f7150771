"""The examples are run as a user runs them, smaller in the default run and whole in the slow one, and stay short."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from support import ROOT, forks

import divmon

EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))

SMALLER = {
    r"probe\(16\)": "probe(4)",
    r"(max_steps\"?[=:] ?)\d+": r"\g<1>4",
    r"every=\d+": "every=2",
    r"(save_steps\"?[=:] ?)\d+": r"\g<1>2",
    r"range\(31\)": "range(5)",
    r"% 15": "% 2",
}
"""Only sizes: prompts and steps."""

SEEN = {
    "sft": "tensorboard --logdir",
    "dpo": "sbert/narrowing_correct",
    "grpo": "the rollouts",
    "plain_loop": "step 4: SBERT",
    "watch": "accuracy",
    "my_metric": "my_metric",
}


def test_every_example_is_tried_here_and_has_at_most_40_lines() -> None:
    lines = {file.stem: len(file.read_text().splitlines()) for file in EXAMPLES.glob("*.py")}
    assert lines.keys() == SEEN.keys()
    assert max(lines.values()) <= 40


@pytest.fixture(scope="module")
def env(little_base: None) -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def smaller(text: str) -> str:
    for size, less in SMALLER.items():
        text = re.sub(size, less, text)
    return text


@pytest.mark.parametrize(
    "name",
    # The journeys try the same trainers in the default run.
    [name if name in ("sft", "my_metric") else pytest.param(name, marks=pytest.mark.slow) for name in SEEN],
)
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["smaller", "whole"])
def test_it_runs_and_measures(name: str, whole: bool, env: dict[str, str], tmp_path: Path) -> None:
    text = (EXAMPLES / f"{name}.py").read_text()
    (tmp_path / f"{name}.py").write_text(text if whole else smaller(text))
    done = forks.run([f"{name}.py", str(tmp_path / "run")], cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (SEEN[name].replace("step 4:", "step 30:") if whole else SEEN[name]) in done.stdout
    stored = sorted(folder.parent for folder in tmp_path.rglob("manifest.json"))
    assert stored, "a run directory is left"
    assert all(divmon.read_run(folder).steps for folder in stored)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs_from_top_to_bottom(path: Path, env: dict[str, str], tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "saved without its outputs"
    for cell in notebook.cells:
        cell["source"] = smaller(cell["source"])
    client = NotebookClient(notebook, timeout=280, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=env)
    shown = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "failed" not in shown, shown
    assert [divmon.read_run(tmp_path / "runs" / name).steps for name in ("narrow", "broad")] == [[0, 2, 4]] * 2
    pictures = [o for cell in notebook.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(pictures) == 1
