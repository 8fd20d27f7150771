"""The examples are run as a user runs them, and stay short."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

import divmon

EXAMPLES = ROOT / "examples"

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
